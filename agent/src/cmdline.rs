//! The kernel command line: how the netboot server tells a machine who it is and where to turn.
//!
//! Pure parsing; bare words and unknown keys are normal (the kernel's own parameters are there too).

pub mod bond;
mod known;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use bond::Bond;
use disk::image::Proxies;
use macaddr::MacAddr6;
use oci::registry::Login;

/// The kernel truncates at 2-4 KiB; anything longer than this is not a command line.
const MAX_BYTES: usize = 16 * 1024;

/// The words of a command line, in order. A later word of the same key wins, as in the kernel.
#[derive(Clone, Debug, Default)]
pub struct Cmdline {
    words: Vec<(String, Option<String>)>,
}

impl Cmdline {
    /// Reads `/proc/cmdline`; empty when there is none.
    pub fn of_this_boot() -> Cmdline {
        Cmdline::parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Splits at white space outside double quotes, and each word at its first `=`.
    ///
    /// Source: kernel `lib/cmdline.c` `next_arg()`.
    pub fn parse(text: &str) -> Cmdline {
        let mut end = text.len().min(MAX_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in text[..end].chars().chain([' ']) {
            match c {
                '"' => quoted = !quoted,
                c if c.is_whitespace() && !quoted => {
                    if !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                }
                c => word.push(c),
            }
        }
        words.extend((!word.is_empty()).then_some(word));
        let split = |word: String| match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        Cmdline {
            words: words.into_iter().map(split).collect(),
        }
    }

    /// The value of the last `key=value`; `None` for a bare word and for an empty value.
    pub fn value(&self, key: &str) -> Option<&str> {
        let found = self.words.iter().rev().find(|(k, v)| k == key && v.is_some());
        found.and_then(|(_, v)| v.as_deref()).filter(|v| !v.is_empty())
    }

    /// Whether a switch is on: a bare word, or a value that Go's `ParseBool` takes for true.
    pub fn is_on(&self, key: &str) -> bool {
        match self.words.iter().rev().find(|(k, _)| k == key) {
            Some((_, None)) => true,
            Some((_, Some(value))) => crate::cmdline::parse_bool(value),
            None => false,
        }
    }

    /// The values that nobody is to see, wherever the kernel has written its command line.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let words = self.words.iter().filter(|(key, _)| is_secret(key));
        words.filter_map(|(_, value)| value.as_deref())
    }

    /// The command line that actions may see: no token, no passwords.
    pub fn masked(&self) -> String {
        let mut text = String::new();
        for (key, value) in self.words.iter().filter(|(key, _)| !is_secret(key)) {
            if !text.is_empty() {
                text.push(' ');
            }
            let blank = |text: &str| text.contains(char::is_whitespace);
            text.push_str(&match value {
                // What stood in quotes would be words of its own without them.
                Some(value) if blank(key) => format!("\"{key}={value}\""),
                Some(value) if blank(value) => format!("{key}=\"{value}\""),
                Some(value) => format!("{key}={value}"),
                None if blank(key) => format!("\"{key}\""),
                None => key.clone(),
            });
        }
        text.push('\n');
        text
    }
}

/// Whether the value of a parameter is a token or a password.
fn is_secret(key: &str) -> bool {
    key == "farrier.token" || key.contains("password")
}

/// Go's `strconv.ParseBool`, where anything else counts as false, as in upstream's actions.
pub fn parse_bool(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// What the agent takes from the command line (upstream's names, and `farrier.*` of ours).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootParameters {
    /// `hw_addr`, else `BOOTIF`, else `worker_id` where that is a MAC, else the MAC in `ipam`.
    pub mac: Option<MacAddr6>,
    pub worker_id: Option<String>,
    /// `grpc_authority`: `host:port`.
    pub server: Option<String>,
    pub token: String,
    /// `farrier.http`: where the boot server's HTTP is.
    pub http: Option<String>,
    pub vlan_id: Option<u16>,
    pub interface: Option<String>,
    pub bond: Option<Bond>,
    pub ipam: Option<Ipam>,
    /// `HTTP_PROXY` and its like, as they are spelt, for actions.
    pub proxies: Vec<(String, String)>,
    /// `docker_registry` and its like.
    pub registries: RegistryParameters,
    pub runtime: RuntimeParameters,
    /// What was there and could not be used, in words.
    pub warnings: Vec<String>,
}

/// How registries are reached. What is printed of it has no password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryParameters {
    /// For the registry of this name: `docker_registry`, `registry_username`, `registry_password`.
    pub login: Option<(String, Login)>,
    /// `insecure_registries`: by plain HTTP.
    pub insecure: Vec<String>,
    /// `farrier.http`: the server, which is asked first.
    pub server: Option<String>,
}

/// Where containerd listens by default, in Debian and in its own configuration.
const CONTAINERD_ADDRESS: &str = "/run/containerd/containerd.sock";

/// Who runs actions that are images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeParameters {
    /// `farrier.runtime`: those whose template does not say it are containerd's.
    pub prefers_containerd: bool,
    /// `farrier.containerd-address`: its socket.
    pub containerd_address: PathBuf,
}

impl Default for RuntimeParameters {
    fn default() -> RuntimeParameters {
        RuntimeParameters {
            prefers_containerd: false,
            containerd_address: PathBuf::from(CONTAINERD_ADDRESS),
        }
    }
}

impl RuntimeParameters {
    /// Sets who runs them.
    ///
    /// # Errors
    /// In words: nobody is called so.
    pub fn prefer(&mut self, runtime: &str) -> Result<(), String> {
        self.prefers_containerd = match runtime {
            "containerd" => true,
            "namespaces" => false,
            _ => return Err(format!("{runtime} is no runtime: write namespaces or containerd")),
        };
        Ok(())
    }

    /// Sets where containerd listens.
    ///
    /// # Errors
    /// In words: it is no absolute path.
    pub fn listens_at(&mut self, address: &str) -> Result<(), String> {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        if !path.starts_with('/') {
            return Err(format!(
                "{address} is no absolute path of a socket: write one like {CONTAINERD_ADDRESS}"
            ));
        }
        self.containerd_address = PathBuf::from(path);
        Ok(())
    }

    fn from_cmdline(cmdline: &Cmdline, warnings: &mut Vec<String>) -> RuntimeParameters {
        let mut parameters = RuntimeParameters::default();
        if let Some(Err(why)) = cmdline
            .value("farrier.runtime")
            .map(|text| parameters.prefer(text))
        {
            warnings.push(format!("farrier.runtime is not used: {why}"));
        }
        let address = cmdline.value("farrier.containerd-address");
        if let Some(Err(why)) = address.map(|text| parameters.listens_at(text)) {
            warnings.push(format!("farrier.containerd-address is not used: {why}"));
        }
        parameters
    }
}

impl RegistryParameters {
    fn from_cmdline(cmdline: &Cmdline) -> RegistryParameters {
        let host = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
        let given = |key: &str| cmdline.value(key).filter(|value| !value.is_empty());
        let login = match (given("docker_registry"), given("registry_username")) {
            (Some(registry), Some(user)) => {
                let password = given("registry_password").unwrap_or_default().to_owned();
                let user = user.to_owned();
                Some((
                    host(registry),
                    Login {
                        user,
                        password: password.into(),
                    },
                ))
            }
            _ => None,
        };
        let insecure = given("insecure_registries").unwrap_or_default().split(',');
        RegistryParameters {
            login,
            server: given("farrier.http").map(str::to_owned),
            insecure: insecure
                .map(|text| host(text.trim()))
                .filter(|text| !text.is_empty())
                .collect(),
        }
    }
}

impl BootParameters {
    pub fn from_cmdline(cmdline: &Cmdline) -> BootParameters {
        let mut warnings = Vec::new();
        let mut ipam = None;
        if let Some(text) = cmdline.value("ipam") {
            match Ipam::parse(text) {
                Ok(parsed) => ipam = Some(parsed),
                Err(problem) => warnings.push(format!("ipam={text} is not used: {problem}")),
            }
        }
        let mut mac = None;
        for key in ["hw_addr", "BOOTIF", "worker_id"] {
            let Some(text) = cmdline.value(key) else { continue };
            match parse_mac(text) {
                Some(found) if mac.is_none() => mac = Some(found),
                Some(_) => {}
                None if key == "worker_id" => {}
                None => warnings.push(format!("{key}={text} is not a MAC address")),
            }
        }
        let mut vlan_id = None;
        if let Some(text) = cmdline.value("vlan_id") {
            match parse_vlan(text) {
                Some(id) => vlan_id = Some(id),
                None => warnings.push(format!(
                    "vlan_id={text} is not used: a VLAN is a number from 1 to 4094"
                )),
            }
        }
        let mut bond = None;
        if let Some(text) = cmdline.value("bond") {
            match Bond::parse(text) {
                Ok((parsed, unused)) => {
                    warnings.extend(unused.iter().map(|what| format!("bond={text}: {what}")));
                    bond = Some(parsed);
                }
                Err(problem) => warnings.push(format!(
                    "bond={text} is not used, and the card that it booted from stands alone: {problem}"
                )),
            }
        }
        let mac = mac.or(ipam.as_ref().and_then(|i| i.mac));
        warnings.extend(known::not_used(cmdline, mac));
        let runtime = RuntimeParameters::from_cmdline(cmdline, &mut warnings);
        let owned = |key: &str| cmdline.value(key).map(str::to_owned);
        BootParameters {
            mac,
            worker_id: owned("worker_id"),
            server: owned("grpc_authority").filter(|text| known::is_authority(text)),
            token: owned("farrier.token").unwrap_or_default(),
            http: owned("farrier.http"),
            vlan_id: vlan_id.or(ipam.as_ref().and_then(|i| i.vlan_id)),
            interface: owned("interface"),
            bond,
            ipam,
            proxies: Proxies::VARIABLES
                .iter()
                .flat_map(|name| [(*name).to_owned(), name.to_lowercase()])
                .filter_map(|name| owned(&name).map(|value| (name, value)))
                .collect(),
            registries: RegistryParameters::from_cmdline(cmdline),
            runtime,
            warnings,
        }
    }
}

/// IEEE 802.1Q: 0 is no VLAN and 4095 is reserved.
fn parse_vlan(text: &str) -> Option<u16> {
    text.parse().ok().filter(|id| (1..=4094).contains(id))
}

/// A MAC; in `BOOTIF` the hardware type (`01-`) is in front of it.
pub fn parse_mac(text: &str) -> Option<MacAddr6> {
    let typed = || text.strip_prefix("01-").or(text.strip_prefix("01:"));
    mac::parse_mac(text).or_else(|| mac::parse_mac(typed()?))
}

/// Upstream's static configuration: nine fields, separated by `:`, so that the MAC has dashes.
///
/// `mac:vlan:address:netmask:gateway:hostname:dns,dns:search,search:ntp,ntp`; empty where unset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipam {
    pub mac: Option<MacAddr6>,
    pub vlan_id: Option<u16>,
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
    pub hostname: Option<String>,
    pub dns: Vec<IpAddr>,
    pub search: Vec<String>,
    pub ntp: Vec<String>,
}

impl Ipam {
    /// # Errors
    /// What is wrong, in words, naming the field.
    pub fn parse(text: &str) -> Result<Ipam, String> {
        let fields: Vec<&str> = text.split(':').collect();
        let [mac, vlan, address, netmask, gateway, hostname, dns, search, ntp] = fields.as_slice() else {
            return Err(format!("it has {} fields, not nine", fields.len()));
        };
        let list = |text: &str| -> Vec<String> {
            text.split(',')
                .filter(|s| !s.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let mask: Ipv4Addr = netmask
            .parse()
            .map_err(|_| format!("netmask {netmask:?} is not one"))?;
        let prefix = u32::from(mask).leading_ones();
        if u32::from(mask).count_ones() != prefix {
            return Err(format!("netmask {netmask} has holes"));
        }
        let mut servers = Vec::new();
        for server in list(dns) {
            servers.push(
                server
                    .parse()
                    .map_err(|_| format!("name server {server:?} is not an address"))?,
            );
        }
        Ok(Ipam {
            mac: match *mac {
                "" => None,
                text => Some(parse_mac(text).ok_or_else(|| format!("{text:?} is not a MAC address"))?),
            },
            vlan_id: match *vlan {
                "" | "0" => None,
                text => Some(
                    parse_vlan(text)
                        .ok_or_else(|| format!("VLAN {text:?} is not a number from 1 to 4094"))?,
                ),
            },
            address: address
                .parse()
                .map_err(|_| format!("address {address:?} is not one"))?,
            prefix: prefix as u8,
            gateway: match *gateway {
                "" => None,
                text => Some(
                    text.parse()
                        .map_err(|_| format!("gateway {text:?} is not an address"))?,
                ),
            },
            hostname: Some((*hostname).to_owned()).filter(|h| !h.is_empty()),
            dns: servers,
            search: list(search),
            ntp: list(ntp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(text: &str) -> BootParameters {
        BootParameters::from_cmdline(&Cmdline::parse(text))
    }

    #[test]
    fn reads_what_the_boot_script_writes() {
        let p = parameters(
            "initrd=initramfs.img console=tty0 console=ttyS0,115200 panic=10 hw_addr=52:54:00:77:00:0b \
             worker_id=52:54:00:77:00:0b grpc_authority=10.77.0.1:42113 farrier.http=http://10.77.0.1:7080 \
             farrier.token=abc= vlan_id=100\n",
        );
        assert_eq!(p.mac, Some(MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x0b)));
        assert_eq!(p.server.as_deref(), Some("10.77.0.1:42113"));
        assert_eq!(p.token, "abc=");
        assert_eq!(p.vlan_id, Some(100));
        assert!(p.warnings.is_empty());
    }

    #[test]
    fn bare_words_and_empty_values_are_not_values() {
        let p = parameters("grpc_authority hw_addr vlan_id= ipam =x = \"");
        assert_eq!((p.server, p.mac, p.vlan_id, p.ipam), (None, None, None, None));
    }

    #[test]
    fn quotes_hold_a_value_together_and_the_last_word_wins() {
        let c = Cmdline::parse("a=1 b=\"x y\" a=2");
        assert_eq!((c.value("a"), c.value("b")), (Some("2"), Some("x y")));
    }

    #[test]
    fn bootif_has_the_hardware_type_in_front() {
        assert_eq!(
            parameters("BOOTIF=01-52-54-00-77-00-0b").mac,
            parse_mac("52:54:00:77:00:0b")
        );
        assert_eq!(parse_mac("52:54:00:77:00"), None);
        assert_eq!(parse_mac("52:54:00:77:00:+b"), None);
    }

    #[test]
    fn wrong_values_are_said_and_not_used() {
        let p = parameters("vlan_id=5000 hw_addr=zz ipam=1:2");
        assert_eq!(p.warnings.len(), 3, "{:?}", p.warnings);
    }

    #[test]
    fn what_others_know_and_this_agent_does_not_is_said() {
        let p = parameters(
            "tinkerbell_tls=true syslog_host=10.0.0.1 registry_password=secret tink_worker_image=x farrier.colour=red facility=onprem \
             intel_iommu=on modules=loop quiet",
        );
        let said = p.warnings.join("\n");
        assert_eq!(p.warnings.len(), 7, "{said}");
        assert!(
            said.contains("farrier.colour=red") && !said.contains("secret"),
            "{said}"
        );
    }

    #[test]
    fn proxies_are_taken_in_both_spellings() {
        let p = parameters("HTTP_PROXY=http://a:1 no_proxy=10.0.0.0/8,x HTTPS_PROXY=");
        assert_eq!(
            p.proxies,
            [
                ("HTTP_PROXY".to_owned(), "http://a:1".to_owned()),
                ("no_proxy".to_owned(), "10.0.0.0/8,x".to_owned())
            ]
        );
    }

    #[test]
    fn ipam_has_nine_fields() {
        let p = parameters(
            "ipam=52-54-00-77-00-0b:7:10.0.0.5:255.255.255.0:10.0.0.1:web:10.0.0.2,1.1.1.1:lab.net:",
        );
        let ipam = p.ipam.expect("parsed");
        assert_eq!((ipam.prefix, ipam.dns.len(), ipam.vlan_id), (24, 2, Some(7)));
        assert_eq!(p.mac, ipam.mac);
        assert!(Ipam::parse("::10.0.0.5:255.0.255.0:::::").is_err());
        let vlan = Ipam::parse(":5000:10.0.0.5:255.255.255.0:::::").expect_err("no VLAN");
        assert!(vlan.contains("\"5000\"") && vlan.contains("4094"), "{vlan}");
    }

    #[test]
    fn the_masked_line_has_no_token() {
        let c = Cmdline::parse("quiet farrier.token=secret registry_password=p a=\"x y\"");
        assert_eq!(c.masked(), "quiet a=\"x y\"\n");
        // Found by fuzzing: what stood in quotes became words of its own, the second of them a token.
        let quoted = "\"say farrier.token=x\" \"a word\" b=\"farrier.token=y z\"";
        let masked = Cmdline::parse(quoted).masked();
        assert_eq!(masked, format!("{quoted}\n"));
        assert_eq!(Cmdline::parse(&masked).value("farrier.token"), None);
    }
}
