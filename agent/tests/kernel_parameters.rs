//! Every kernel parameter that Tinkerbell's in-memory systems read has a row in docs/reference/boot.md, and what the row says is what
//! the agent does.
//!
//! Source of the list: HookOS `images/hook-bootkit/main.go`, `images/hook-docker/main.go`, `files/{vlan,dhcp,static-network}.sh` and
//! the command line of smee's `auto.ipxe`; CaptainOS `tink-agent-setup`, `captainos-static-network`.

use farrier_agent::cmdline::{BootParameters, Cmdline};

/// What those read. One that is added there is added here, and needs a row.
const CONTRACT: [&str; 24] = [
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "console",
    "docker_registry",
    "facility",
    "grpc_authority",
    "hw_addr",
    "initrd",
    "insecure_registries",
    "intel_iommu",
    "interface",
    "iommu",
    "ipam",
    "modules",
    "registry_password",
    "registry_username",
    "syslog_host",
    "syslog_port",
    "tink_worker_image",
    "tinkerbell_insecure_tls",
    "tinkerbell_tls",
    "vlan_id",
    "worker_id",
];

const BOOT_MD: &str = include_str!("../../docs/reference/boot.md");

/// Parameter and what the table says of it.
fn rows() -> Vec<(&'static str, &'static str)> {
    let (_, table) = BOOT_MD
        .split_once("| Parameter | Taken |")
        .expect("the table is in boot.md");
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &'static str| {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let name = cells.next().expect("a name").trim_matches('`');
        (
            name,
            cells.next().expect("what is done").trim_end_matches('|').trim(),
        )
    };
    lines.map(row).collect()
}

fn parameters(text: &str) -> BootParameters {
    BootParameters::from_cmdline(&Cmdline::parse(text))
}

#[test]
fn every_parameter_of_the_contract_has_one_row_and_every_row_is_of_it() {
    let mut names: Vec<&str> = rows().into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, CONTRACT);
}

#[test]
fn what_a_row_says_is_what_is_done() {
    for (name, taken) in rows() {
        match taken {
            "yes" => is_taken(name),
            "no" => is_said(name),
            // The kernel's own, or its loader's: the agent has nothing to say of it.
            "kernel" => {
                let p = parameters(&format!("{name}=on"));
                assert_eq!(p, BootParameters::default(), "{name}");
            }
            other => panic!("{name}: {other:?} is neither yes, no nor kernel"),
        }
    }
}

/// It changes what the agent does, and nothing is said of it.
fn is_taken(name: &str) {
    const MAC: &str = "52:54:00:77:00:0b";
    let (line, is_so): (&str, fn(&BootParameters) -> bool) = match name {
        "grpc_authority" => ("grpc_authority=10.0.0.1:42113", |p| {
            p.server.as_deref() == Some("10.0.0.1:42113")
        }),
        "worker_id" => ("worker_id=52:54:00:77:00:0b", |p| p.mac.is_some()),
        "hw_addr" => ("hw_addr=52:54:00:77:00:0b", |p| p.mac.is_some()),
        "vlan_id" => ("vlan_id=100", |p| p.vlan_id == Some(100)),
        "interface" => ("interface=eth1", |p| p.interface.as_deref() == Some("eth1")),
        "ipam" => (
            "ipam=52-54-00-77-00-0b:7:10.0.0.5:255.255.255.0:10.0.0.1:web:10.0.0.2:lab.net:10.0.0.3",
            |p| {
                p.mac.is_some()
                    && p.vlan_id == Some(7)
                    && p.ipam.as_ref().is_some_and(|ipam| ipam.prefix == 24)
            },
        ),
        "HTTP_PROXY" | "HTTPS_PROXY" | "NO_PROXY" => {
            let p = parameters(&format!("{name}=http://10.0.0.1:3128"));
            assert_eq!(p.proxies, [(name.to_owned(), "http://10.0.0.1:3128".to_owned())]);
            return assert!(p.warnings.is_empty(), "{:?}", p.warnings);
        }
        "docker_registry" | "registry_username" | "registry_password" => (
            "docker_registry=r.lab registry_username=u registry_password=p",
            |p| {
                p.registries
                    .login
                    .as_ref()
                    .is_some_and(|(registry, login)| registry == "r.lab" && login.user == "u")
            },
        ),
        "insecure_registries" => ("insecure_registries=r.lab:5000", |p| {
            p.registries.insecure == ["r.lab:5000"]
        }),
        other => panic!("{other} is said to be taken, and nothing here tries it"),
    };
    let p = parameters(line);
    assert!(is_so(&p), "{name}: {p:?}");
    assert!(p.warnings.is_empty(), "{name}: {:?}", p.warnings);
    if let Some(mac) = p.mac {
        assert_eq!(mac::mac_text(mac), MAC);
    }
}

/// It changes nothing, and the line that says so has the parameter, its value and what to do.
fn is_said(name: &str) {
    let (value, cure) = match name {
        "tink_worker_image" => ("ghcr.io/tinkerbell/tink-agent:latest", "take it out"),
        "tinkerbell_tls" | "tinkerbell_insecure_tls" => ("true", "keep the netboot network to machines"),
        "syslog_host" => ("10.0.0.1", "farrier workflow logs"),
        "syslog_port" => ("514", "farrier workflow logs"),
        "facility" => ("onprem", "`consoles`"),
        "modules" => ("loop,squashfs,sd-mod,usb-storage", "--profile server"),
        other => panic!("{other} is said not to be taken, and nothing here tries it"),
    };
    let mut p = parameters(&format!("{name}={value}"));
    let said = std::mem::take(&mut p.warnings);
    assert_eq!(p, BootParameters::default(), "{name}");
    assert!(
        matches!(said.as_slice(), [said] if said.starts_with(&format!("{name}={value} ")) && said.contains(cure)),
        "{name}: {said:?}"
    );
}

#[test]
fn a_value_that_means_nothing_is_said_with_what_would() {
    for (line, wants) in [
        ("vlan_id=5000", &["vlan_id=5000", "1 to 4094"][..]),
        ("hw_addr=zz", &["hw_addr=zz"]),
        (
            "grpc_authority=10.0.0.1",
            &["grpc_authority=10.0.0.1", "10.0.0.1:42113"],
        ),
        ("grpc_authority=fe80::1:42113", &["grpc_authority=fe80::1:42113"]),
        ("worker_id=rack-1", &["worker_id=rack-1", "agent_id: rack-1"]),
        (
            "hw_addr=52:54:00:77:00:0b worker_id=52:54:00:77:00:0c",
            &["worker_id=52:54:00:77:00:0c", "52:54:00:77:00:0b"],
        ),
        (
            "hw_addr=52:54:00:77:00:0b interface=eth1",
            &["interface=eth1", "take one of them out"],
        ),
        (
            "docker_registry=r.lab",
            &["docker_registry=r.lab", "registry_username=NAME"],
        ),
        (
            "registry_username=u",
            &["registry_username=u", "docker_registry=HOST"],
        ),
        (
            "registry_password=hunter22",
            &["registry_password=(not shown)", "docker_registry=HOST"],
        ),
        ("HTTP_PROXY=ftp://x", &["HTTP_PROXY"]),
        ("ipam=1:2", &["ipam=1:2", "not nine"]),
        (
            "bond=bond0:eth0,eth1:mode=6",
            &["bond=bond0:eth0,eth1:mode=6", "mode=802.3ad"],
        ),
        (
            "bond=bond0:eth1:mode=4,primary=eth0",
            &["bond=bond0", "option primary=eth0 is not used"],
        ),
        (
            "farrier.htpp=http://10.0.0.1",
            &["farrier.htpp=http://10.0.0.1", "docs/reference/boot.md"],
        ),
    ] {
        let p = parameters(line);
        let [said] = p.warnings.as_slice() else {
            panic!("{line}: {:?}", p.warnings)
        };
        let missing: Vec<&&str> = wants.iter().filter(|want| !said.contains(**want)).collect();
        assert!(missing.is_empty(), "{line}: {missing:?} is not in {said:?}");
        assert!(!said.contains("hunter22"), "{said}");
    }
    // What is written as upstream's scripts write it is no problem.
    assert!(
        parameters("vlan_id= tinkerbell_tls=false tinkerbell_insecure_tls=false")
            .warnings
            .is_empty()
    );
    for name in ["syslog_host", "tinkerbell_tls", "facility"] {
        let said = parameters(name).warnings.join("\n");
        assert!(
            said.starts_with(&format!("{name} on the kernel command line has no effect")),
            "{said}"
        );
    }
    // Bare words: both of upstream's parsers fall over them.
    for name in [
        "grpc_authority",
        "hw_addr",
        "ipam",
        "docker_registry",
        "bond",
        "vlan_id",
        "NO_PROXY",
    ] {
        let said = parameters(name).warnings.join("\n");
        assert!(
            said.starts_with(&format!("{name} on the kernel command line has no value")),
            "{said}"
        );
    }
}
