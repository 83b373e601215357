//! Starts the worker: under our PID 1 from the kernel command line, or as an ordinary process from its arguments.

use std::path::PathBuf;
use std::process::ExitCode;

use macaddr::MacAddr6;

use crate::actions::Surroundings;
use crate::boot_secret;
use crate::cmdline::{BootParameters, Cmdline, RegistryParameters, RuntimeParameters, parse_mac};
use crate::console::{self, say};
use crate::device_links;
use crate::hardware::Hardware;
use crate::modules::seals_of_running_kernel;
use crate::net::{self, nic};
use crate::notices;
use crate::runtime::on_runtime;
use crate::screen::{self, Trouble};
use crate::setting::Setting;
use crate::tools::Tools;
use crate::worker::{self, Identity, Settings};

const USAGE: &str = "\
usage: farrier-agent --server HOST:PORT [--mac MAC] [--token TOKEN] [--state-dir DIR]
                     [--runtime RUNTIME] [--containerd-address SOCKET]

Attaches this host to a Farrier server and runs the actions that it is given.
  --server HOST:PORT  where the server's gRPC listens (FARRIER_AGENT_SERVER)
  --mac MAC           who this machine is; default: its only network card with a cable
  --token TOKEN       the boot token, where the server asks for one (FARRIER_BOOT_TOKEN)
  --state-dir DIR     where the journal of this boot is kept; default: /run/farrier-agent
  --runtime RUNTIME   who runs actions that are images, where their template does not say
                      it: namespaces (this agent; the default), containerd
  --containerd-address SOCKET
                      where containerd listens; default: /run/containerd/containerd.sock
  --help, -h          print this
  --version, -V       print the version
Exits with 70 when the machine is to reboot, 71 when it is to power off.";

/// The worker of a netbooted machine.
pub(crate) fn as_worker(died: &str) -> ExitCode {
    console::open_all();
    screen::panel::keep(&console::active());
    device_links::keep();
    let parameters = BootParameters::from_cmdline(&Cmdline::of_this_boot());
    // PID 1 has said them, in a process of its own.
    for warning in &parameters.warnings {
        notices::tell(&console::printable(warning));
        screen::change(|state| state.push_line(&console::printable(warning)));
    }
    let (surroundings, problem) = Surroundings::of_this_boot(&parameters);
    if let Some(problem) = problem {
        say(&problem);
    }
    screen::change(Identity::show_machine);
    on_runtime(async {
        let Some(nic) = nic::find_boot_nic(&parameters) else {
            say(&nic::describe_missing(&parameters));
            return ExitCode::FAILURE;
        };
        screen::change(|state| state.mac = nic.mac_text());
        if let Err(e) = net::bring_up(&nic, &parameters).await {
            say(&format!("no network: {e}"));
            return ExitCode::FAILURE;
        }
        let Some(server) = parameters.server.clone() else {
            let problem =
                "the kernel command line has no grpc_authority=HOST:PORT: there is no server to ask";
            say(problem);
            let cure = "boot through farrier serve, whose script says it, or put it into kernel_params";
            screen::change(|state| state.trouble = Some(Trouble::new(problem, cure)));
            return std::future::pending().await;
        };
        screen::change(|state| state.server.clone_from(&server));
        let identity = Identity::of_this_machine(nic.mac, parameters.token.clone());
        let identity = match tokio::task::spawn_blocking(boot_secret::from_stdin).await {
            Ok(Ok(secret)) => identity.with_boot_id(secret),
            problem => {
                say(&format!("the boot has no secret of its own: {problem:?}"));
                identity
            }
        };
        worker::run(Settings {
            identity,
            server,
            state_dir: PathBuf::from("/run/farrier-agent"),
            setting: Setting::Netboot,
            last_death: died.to_owned(),
            surroundings,
            registries: parameters.registries.clone(),
            runtime: parameters.runtime.clone(),
            hardware: Some(Hardware::served_by(parameters.http.clone())),
            tools: Tools::of_this_boot(seals_of_running_kernel(), parameters.http.clone()),
        })
        .await
    })
}

/// An ordinary process on a host that has a network.
pub(crate) fn as_process(arguments: &[String]) -> ExitCode {
    if arguments
        .iter()
        .any(|word| matches!(word.as_str(), "--help" | "-h" | "help"))
    {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match settings(arguments) {
        Ok(settings) => on_runtime(worker::run(settings)),
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn settings(arguments: &[String]) -> Result<Settings, String> {
    let mut server = std::env::var("FARRIER_AGENT_SERVER").ok();
    let mut token = std::env::var("FARRIER_BOOT_TOKEN").unwrap_or_default();
    let mut state_dir = PathBuf::from("/run/farrier-agent");
    let mut mac: Option<MacAddr6> = None;
    let mut runtime = RuntimeParameters::default();
    let mut words = arguments.iter();
    while let Some(flag) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--server" => server = Some(value()?.clone()),
            "--token" => token = value()?.clone(),
            "--state-dir" => state_dir = PathBuf::from(value()?),
            "--runtime" => runtime
                .prefer(value()?)
                .map_err(|why| format!("--runtime: {why}"))?,
            "--containerd-address" => {
                let address = runtime.listens_at(value()?);
                address.map_err(|why| format!("--containerd-address: {why}"))?;
            }
            "--mac" => {
                let text = value()?;
                mac = Some(parse_mac(text).ok_or_else(|| format!("--mac {text} is not a MAC address"))?);
            }
            _ => return Err(format!("argument {flag} is not known; see farrier-agent --help")),
        }
    }
    let mac = match mac {
        Some(mac) => mac,
        None => only_mac()?,
    };
    Ok(Settings {
        identity: Identity::of_this_machine(mac, token),
        server: server.ok_or("--server HOST:PORT is missing")?,
        state_dir,
        setting: Setting::Host,
        last_death: String::new(),
        surroundings: Surroundings::of_this_process(),
        registries: RegistryParameters::default(),
        runtime,
        hardware: None,
        tools: Tools::default(),
    })
}

fn only_mac() -> Result<MacAddr6, String> {
    let nics: Vec<nic::Nic> = nic::list().into_iter().filter(|nic| nic.carrier).collect();
    match nics.as_slice() {
        [nic] => Ok(nic.mac),
        nics => {
            let there: Vec<String> = nics
                .iter()
                .map(|n| format!("{} {}", n.name, n.mac_text()))
                .collect();
            Err(format!(
                "--mac is needed: network cards with a cable are: {}",
                there.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        settings(&words)
    }

    #[test]
    fn flags_make_settings() {
        let s = parse("--server 10.0.0.1:42113 --mac 52:54:00:77:00:0B --token t").expect("settings");
        assert_eq!(
            (s.server.as_str(), s.identity.mac.as_str()),
            ("10.0.0.1:42113", "52:54:00:77:00:0b")
        );
        assert!(!s.runtime.prefers_containerd && s.runtime.containerd_address.starts_with("/run/containerd"));
        let s = parse("--server s:1 --mac 52:54:00:77:00:0B --runtime containerd --containerd-address unix:///run/c.sock")
            .expect("settings");
        assert!(s.runtime.prefers_containerd && s.runtime.containerd_address.ends_with("run/c.sock"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(parse("--server").expect_err("no value").contains("--server"));
        assert!(parse("--mac zz").expect_err("no MAC").contains("zz"));
        assert!(
            parse("--runtime docker")
                .expect_err("unknown")
                .contains("namespaces or containerd")
        );
        assert!(
            parse("--containerd-address c.sock")
                .expect_err("relative")
                .contains("c.sock")
        );
        assert!(parse("--frob").expect_err("unknown").contains("--frob"));
    }
}
