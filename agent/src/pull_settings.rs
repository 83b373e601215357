//! What the server says of a registry for one attempt, and what is never said of it.

use std::error::Error;

use oci::registry::{Login, Registries};
use proto::v1;
use redaction::Secrets;

/// The password, and the forms in which a registry is told it.
pub(crate) fn hidden(settings: &v1::PullSettings) -> Secrets {
    let login = Login {
        user: settings.user.clone(),
        password: settings.password.clone().into(),
    };
    Secrets::new([login.password.as_str(), login.basic().as_str()])
}

/// Has a registry be reached as the server says: its mirrors behind those that are known, and a login in the place of one that is.
///
/// # Errors
/// In words: what the server says leads nowhere.
pub(crate) fn told(
    registries: &mut Registries,
    registry: &str,
    settings: v1::PullSettings,
) -> Result<(), String> {
    let bad = |what: String| format!("what the server says of registry {registry} cannot be used: {what}");
    if settings.plain_http {
        let url = format!("http://{registry}");
        registries.be_at(registry, &url).map_err(|e| bad(e.to_string()))?;
    }
    for mirror in &settings.mirrors {
        registries
            .add_mirror(&format!("{registry}={mirror}"))
            .map_err(|e| bad(e.to_string()))?;
    }
    if !settings.authorities_pem.is_empty() {
        registries
            .reach
            .trust
            .add(&settings.authorities_pem)
            .map_err(bad)?;
    }
    if !settings.user.is_empty() {
        let login = Login {
            user: settings.user,
            password: settings.password.into(),
        };
        registries.log_in(registry, login);
    }
    Ok(())
}

/// The words of an error and of its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use oci::registry::Transport;

    use super::*;

    #[test]
    fn causes_are_said_once() {
        let cause = std::io::Error::other("the disk is on fire");
        let error = oci::cache::CacheError::Io {
            what: "making",
            path: "/x".into(),
            source: cause,
        };
        let text = chain(&error);
        assert_eq!(text.matches("the disk is on fire").count(), 1, "{text}");
        assert!(text.contains("/x"), "{text}");
    }

    #[test]
    fn settings_are_for_the_registry_of_the_image_alone() {
        let mut registries = Registries::default();
        let settings = v1::PullSettings {
            mirrors: vec!["http://10.0.0.5:5000".to_owned()],
            plain_http: true,
            user: "ali".to_owned(),
            password: "open sesame".to_owned(),
            ..v1::PullSettings::default()
        };
        told(&mut registries, "lab:5000", settings).expect("settings");
        assert_eq!(registries.by_name.len(), 1);
        let lab = &registries.by_name["lab:5000"];
        let own = lab.own.as_ref().expect("the registry itself");
        assert_eq!(own.transport, Transport::Plain);
        assert_eq!(own.login.as_ref().expect("a login").user, "ali");
        assert_eq!((lab.mirrors.len(), &lab.mirrors[0].login), (1, &None));
        for bad in [
            v1::PullSettings {
                mirrors: vec!["10.0.0.5".to_owned()],
                ..v1::PullSettings::default()
            },
            v1::PullSettings {
                authorities_pem: "none".to_owned(),
                ..v1::PullSettings::default()
            },
        ] {
            let said = told(&mut registries, "quay.io", bad).expect_err("no settings");
            assert!(
                said.starts_with("what the server says of registry quay.io cannot be used: "),
                "{said}"
            );
        }
    }

    #[test]
    fn a_password_is_hidden_as_it_is_and_as_it_is_sent() {
        let settings = v1::PullSettings {
            user: "ali".to_owned(),
            password: "open sesame".to_owned(),
            ..v1::PullSettings::default()
        };
        let said = "no open sesame, no YWxpOm9wZW4gc2VzYW1l";
        assert_eq!(hidden(&settings).hidden(said), "no ***, no ***");
    }
}
