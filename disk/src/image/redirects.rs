//! Where an image's server may lead.

use reqwest::redirect::Policy;

/// As browsers do.
const MAX_REDIRECTS: usize = 10;

/// Whether a redirect may lead from https to http.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Downgrade {
    /// The content is compared with a digest that came another way.
    Allowed,
    Refused,
}

pub(super) fn redirects(downgrade: Downgrade) -> Policy {
    Policy::custom(move |attempt| {
        let secure = attempt
            .previous()
            .last()
            .is_some_and(|from| from.scheme() == "https");
        if downgrade == Downgrade::Refused && secure && attempt.url().scheme() == "http" {
            let host = attempt.url().host_str().unwrap_or_default().to_owned();
            return attempt.error(format!(
                "the server leads from https to http (host {host}), where anybody on the way can change the image: give its \
                 SHA256, or a URL without the detour"
            ));
        }
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(format!("more than {MAX_REDIRECTS} redirects"));
        }
        attempt.follow()
    })
}
