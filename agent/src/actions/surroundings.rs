//! What downloads and commands on this machine have around them: proxies, and the authorities of the site's own.

use std::collections::HashMap;
use std::path::Path;

use disk::image::{Proxies, Reach, Roots, Trust};
use oci::registry::{Endpoint, Registries, Transport};

use super::Failure;
use super::environment::Environment;
use crate::cmdline::{BootParameters, RegistryParameters};

/// Authorities of the site's own in a boot image (`farrier image build --ca-file`).
const SITE_AUTHORITIES: &str = "/etc/ssl/farrier-site.pem";

/// The same for every action of a boot; actions add to it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    proxies: Vec<(String, String)>,
    trust: Trust,
}

impl Surroundings {
    /// Of a netbooted machine: proxies from the kernel command line, Mozilla's authorities and those of the boot image.
    ///
    /// Also what is wrong with the latter, in words.
    pub fn of_this_boot(parameters: &BootParameters) -> (Surroundings, Option<String>) {
        let mut trust = Trust::new(Roots::BuiltIn);
        let problem = match std::fs::read_to_string(Path::new(SITE_AUTHORITIES)) {
            Ok(pem) => trust.add(&pem).err(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => Some(e.to_string()),
        };
        let surroundings = Surroundings {
            proxies: parameters.proxies.clone(),
            trust,
        };
        (
            surroundings,
            problem.map(|why| format!("{SITE_AUTHORITIES} of the boot image is not used: {why}")),
        )
    }

    /// Of a process on somebody's system: its environment, its authorities.
    pub fn of_this_process() -> Surroundings {
        let spellings = Proxies::VARIABLES
            .iter()
            .flat_map(|name| [(*name).to_owned(), name.to_lowercase()]);
        Surroundings {
            proxies: spellings
                .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
                .collect(),
            trust: Trust::new(Roots::System),
        }
    }

    /// For a download of this action.
    ///
    /// # Errors
    /// `BadVariable`: a proxy that is none, or something else than certificates in `CA_CERTIFICATES`.
    pub(super) fn reach(&self, env: &Environment<'_>) -> Result<Reach, Failure> {
        let bad = |what: String| Failure::new("BadVariable", what);
        let proxies = Proxies::of(|name| {
            if is_given(env, name) {
                return env.optional(name).map(str::to_owned);
            }
            let found = self.proxies.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        })
        .map_err(bad)?;
        let mut trust = self.trust.clone();
        if let Some(pem) = env.optional("CA_CERTIFICATES") {
            trust
                .add(pem)
                .map_err(|why| bad(format!("environment variable CA_CERTIFICATES is not used: {why}")))?;
        }
        Ok(Reach { proxies, trust })
    }

    /// For images.
    ///
    /// # Errors
    /// In words: a proxy that is none.
    pub(crate) fn registries(&self, parameters: &RegistryParameters) -> Result<Registries, String> {
        let reach = self
            .reach(&Environment::of(&HashMap::new()))
            .map_err(|failure| failure.message)?;
        let mut registries = Registries {
            reach,
            ..Registries::default()
        };
        if let Some(server) = &parameters.server
            && let Err(why) = registries.ask_first(server)
        {
            tracing::warn!("the server is not asked for images: {why}");
        }
        for host in &parameters.insecure {
            let own = Endpoint {
                transport: Transport::Plain,
                ..Endpoint::of(host)
            };
            registries.by_name.entry(host.clone()).or_default().own = Some(own);
        }
        if let Some((name, login)) = &parameters.login {
            registries.log_in(name, login.clone());
        }
        Ok(registries)
    }

    /// The machine's proxies for a command, in both spellings, but for those that the action gives.
    pub(super) fn variables(&self, env: &Environment<'_>) -> Vec<(String, String)> {
        self.proxies
            .iter()
            .filter(|(name, _)| !is_given(env, name))
            .flat_map(|(name, value)| {
                [name.to_uppercase(), name.to_lowercase()].map(|name| (name, value.clone()))
            })
            .collect()
    }
}

/// Whether the action itself says it, in whichever letters.
fn is_given(env: &Environment<'_>, name: &str) -> bool {
    env.optional(&name.to_uppercase()).is_some() || env.optional(&name.to_lowercase()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::Cmdline;

    fn surroundings() -> Surroundings {
        let proxies = [("HTTP_PROXY", "http://boot:1"), ("NO_PROXY", "10.77.0.1")];
        Surroundings {
            proxies: proxies
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            trust: Trust::default(),
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn an_action_s_proxy_goes_before_the_machine_s_in_either_spelling() {
        let reach = |pairs: &[(&str, &str)]| {
            let variables = variables(pairs);
            let reach = surroundings().reach(&Environment::of(&variables));
            reach
                .map(|reach| reach.proxies)
                .map_err(|failure| failure.message)
        };
        let of = |pairs: &[(&str, &str)]| {
            let variables = variables(pairs);
            Proxies::of(|name| variables.get(name).cloned())
        };
        let both = [("HTTP_PROXY", "http://boot:1"), ("NO_PROXY", "10.77.0.1")];
        assert_eq!(reach(&[]), of(&both));
        let own = [("HTTP_PROXY", "http://own:2"), ("NO_PROXY", "10.77.0.1")];
        assert_eq!(reach(&[("http_proxy", "http://own:2")]), of(&own));
        assert_eq!(reach(&[("HTTP_PROXY", "http://own:2")]), of(&own));
        assert_eq!(reach(&[("no_proxy", "*")]), Ok(Proxies::default()));
        assert!(reach(&[("HTTPS_PROXY", "ftp://x")]).is_err_and(|why| why.contains("HTTPS_PROXY")));
    }

    #[test]
    fn a_command_is_given_what_the_machine_has_and_the_action_does_not_say() {
        let given = variables(&[("no_proxy", "*")]);
        let names: Vec<String> = surroundings()
            .variables(&Environment::of(&given))
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(names, ["HTTP_PROXY=http://boot:1", "http_proxy=http://boot:1"]);
    }

    #[test]
    fn what_is_no_certificate_is_refused_before_anything_is_fetched() {
        let given = variables(&[("CA_CERTIFICATES", "hello")]);
        let refused = surroundings()
            .reach(&Environment::of(&given))
            .expect_err("refused");
        assert!(refused.message.contains("CA_CERTIFICATES"), "{}", refused.message);
    }

    #[test]
    fn registries_are_reached_as_the_kernel_command_line_says() {
        let line = "docker_registry=10.0.0.1:5000/mirror registry_username=ali registry_password=secret \
                    insecure_registries=10.0.0.1:5000,10.0.0.2 farrier.http=http://10.77.0.1:7080";
        let parameters = BootParameters::from_cmdline(&Cmdline::parse(line));
        assert!(
            parameters.warnings.is_empty() && !format!("{parameters:?}").contains("secret"),
            "{parameters:?}"
        );
        let registries = surroundings()
            .registries(&parameters.registries)
            .expect("registries");
        assert_eq!(
            registries.first.as_ref().expect("the server").host,
            "10.77.0.1:7080"
        );
        let own = |name: &str| registries.by_name[name].own.clone().expect("own");
        assert_eq!(own("10.0.0.1:5000").login.expect("login").user, "ali");
        assert_eq!(own("10.0.0.1:5000").transport, Transport::Plain);
        assert_eq!(
            (own("10.0.0.2").transport, own("10.0.0.2").login.is_none()),
            (Transport::Plain, true)
        );
    }
}
