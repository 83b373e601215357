#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const DEBIAN: &str = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n";

#[test]
fn debian_and_its_children_have_debians_packages() {
    assert!(has_debian_packages(DEBIAN));
    assert!(has_debian_packages("ID=ubuntu\nID_LIKE=debian\n"));
    assert!(has_debian_packages("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
    assert!(has_debian_packages("ID='pop'\nID_LIKE='ubuntu debian'\n"));
    assert!(!has_debian_packages("ID=fedora\nVARIANT=debian\n"));
    assert!(!has_debian_packages(
        "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n"
    ));
    assert!(!has_debian_packages(""));
}

#[test]
fn programs_files_and_alternatives_are_found() {
    let fake = Fake::with(&[("tool", "exit 0")]);
    assert!(fake.host.has("tool"));
    assert!(fake.host.has("/no/such/file|/proc/version"));
    assert!(!fake.host.has("no-such-program-at-all"));
    // A directory is no program.
    fs::create_dir(fake.directory.join("folder")).unwrap();
    assert!(!fake.host.has("folder"));
}

#[test]
fn what_is_done_follows_from_distribution_user_terminal_and_consent() {
    let (apt, sudo) = (("apt-get", "exit 0"), ("sudo", "exit 0"));
    let needs = [need("b", "bb", "b"), need("a", "aa", "a"), need("b2", "bb", "b")];
    let all: Vec<&Need> = needs.iter().collect();
    let packages = vec!["aa", "bb"];
    let install = |asks, sudo| Plan::Install {
        packages: packages.clone(),
        asks,
        sudo,
    };
    let by_hand = Plan::ByHand(packages.clone());
    let as_root = Plan::AsRoot(packages.clone());
    use Consent::{Ask, Given};
    #[rustfmt::skip]
    let table = [
        // programs, os-release, root, terminal, consent, plan
        (vec![apt], DEBIAN, true, true, Ask, install(true, false)),
        (vec![apt], DEBIAN, true, true, Given, install(false, false)),
        (vec![apt], DEBIAN, true, false, Ask, install(false, false)),
        (vec![apt], DEBIAN, true, false, Given, install(false, false)),
        (vec![apt, sudo], DEBIAN, false, true, Ask, install(true, true)),
        (vec![apt, sudo], DEBIAN, false, true, Given, install(false, true)),
        (vec![apt, sudo], DEBIAN, false, false, Ask, install(false, true)),
        (vec![apt, sudo], DEBIAN, true, true, Ask, install(true, false)),
        (vec![apt], DEBIAN, false, true, Ask, as_root.clone()),
        (vec![apt], DEBIAN, false, false, Given, as_root),
        (vec![sudo], DEBIAN, true, true, Given, by_hand.clone()),
        (vec![apt, sudo], "ID=altlinux\n", true, true, Given, by_hand.clone()),
        (vec![], "ID=fedora\n", false, false, Ask, by_hand.clone()),
        (vec![apt], "", true, true, Ask, by_hand),
    ];
    for (programs, os_release, root, terminal, consent, expected) in table {
        let fake = Fake::with(&programs);
        let host = Host {
            os_release: os_release.to_owned(),
            root,
            terminal,
            ..fake.host.clone()
        };
        assert_eq!(plan(&all, &host, consent), expected, "{host:?} {consent:?}");
        assert_eq!(plan(&[], &host, consent), Plan::Nothing, "{host:?} {consent:?}");
    }
}

#[test]
fn an_answer_is_yes_unless_it_is_something_else() {
    for (typed, expected) in [
        ("\n", true),
        ("y\n", true),
        (" YES \n", true),
        ("n\n", false),
        ("no\n", false),
        ("what?\n", false),
        ("", false),
    ] {
        assert_eq!(
            agreed(true, &mut typed.as_bytes()).unwrap(),
            expected,
            "{typed:?}"
        );
    }
}

#[test]
fn apt_get_updates_and_installs_what_is_missing_without_questions_of_its_own() {
    let fake = Fake::with(&[("apt-get", APT_GET), ("there", "exit 0")]);
    fake.install(Consent::Ask, "y\n").unwrap();
    assert_eq!(
        fake.asked(),
        "apt-get noninteractive update -q\n\
         apt-get noninteractive install -y -q --no-install-recommends tool-package\n"
    );
    // Now it is there, and nobody is asked for anything.
    fs::remove_file(fake.directory.join("asked")).unwrap();
    fake.install(Consent::Ask, "").unwrap();
    assert_eq!(fake.asked(), "");
}

#[test]
fn who_is_not_root_installs_by_sudo() {
    let mut fake = Fake::with(&[("apt-get", APT_GET), ("sudo", SUDO), ("there", "exit 0")]);
    fake.host.root = false;
    fake.install(Consent::Given, "").unwrap();
    assert_eq!(
        fake.asked(),
        "sudo --preserve-env=DEBIAN_FRONTEND apt-get update -q\n\
         apt-get noninteractive update -q\n\
         sudo --preserve-env=DEBIAN_FRONTEND apt-get install -y -q --no-install-recommends tool-package\n\
         apt-get noninteractive install -y -q --no-install-recommends tool-package\n"
    );
}

#[test]
fn a_no_installs_nothing_and_says_what_is_needed() {
    let fake = Fake::with(&[("apt-get", APT_GET), ("there", "exit 0")]);
    for answer in ["n\n", ""] {
        let error = fake.install(Consent::Ask, answer).unwrap_err();
        assert_eq!(
            error,
            "nothing installed; the test needs: apt-get install tool-package"
        );
    }
    assert_eq!(fake.asked(), "");
}

#[test]
fn another_distribution_gets_the_list_and_nothing_is_run() {
    let mut fake = Fake::with(&[("apt-get", APT_GET), ("there", "exit 0")]);
    fake.host.os_release = "ID=fedora\n".to_owned();
    let error = fake.install(Consent::Given, "").unwrap_err();
    assert_eq!(
        error,
        "this is not Debian or Ubuntu: install the counterparts of tool-package and start again"
    );
    fake.host.os_release = DEBIAN.to_owned();
    fake.host.root = false;
    let error = fake.install(Consent::Given, "").unwrap_err();
    assert!(
        error.contains("no sudo: as root, run `apt-get install tool-package`"),
        "{error}"
    );
    assert_eq!(fake.asked(), "");
}

#[test]
fn an_apt_get_that_fails_or_installs_something_else_is_an_error_in_words() {
    let fails = "echo apt-get \"$@\" >>ASKED; exit 100";
    let fake = Fake::with(&[("apt-get", fails), ("there", "exit 0")]);
    let error = fake.install(Consent::Given, "").unwrap_err();
    assert_eq!(error, "apt-get update -q failed (exit status: 100), see above");
    assert_eq!(
        fake.asked(),
        "apt-get update -q\n",
        "nothing is installed after that"
    );

    let fails_late = "[ \"$1\" = update ] || exit 7";
    let fake = Fake::with(&[("apt-get", fails_late), ("there", "exit 0")]);
    let error = fake.install(Consent::Given, "").unwrap_err();
    assert!(error.contains("tool-package failed (exit status: 7)"), "{error}");

    let fake = Fake::with(&[("apt-get", "exit 0"), ("there", "exit 0")]);
    let error = fake.install(Consent::Given, "").unwrap_err();
    assert_eq!(error, "apt-get succeeded but tool is still not there");

    let mut fake = Fake::with(&[("apt-get", APT_GET), ("sudo", "exit 1"), ("there", "exit 0")]);
    fake.host.root = false;
    let error = fake.install(Consent::Given, "").unwrap_err();
    assert_eq!(error, "apt-get update -q failed (exit status: 1), see above");
    assert_eq!(fake.asked(), "");
}

/// Writes down what it was asked for; `install` brings the program `tool`. ASKED and HERE are places.
const APT_GET: &str = "echo apt-get \"$DEBIAN_FRONTEND\" \"$@\" >>ASKED; \
                       [ \"$1\" != install ] || echo >HERE/tool";
/// Writes down what it was asked for, and does it.
const SUDO: &str = "echo sudo \"$@\" >>ASKED; shift; exec \"$@\"";

/// A Debian, root, at a terminal, whose only programs in PATH are scripts.
struct Fake {
    host: Host,
    directory: PathBuf,
}

impl Fake {
    fn with(programs: &[(&str, &str)]) -> Fake {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("farrier-packages-{}-{number}", std::process::id());
        let directory = env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        for (name, script) in programs {
            let here = directory.display().to_string();
            let script = script
                .replace("ASKED", &format!("{here}/asked"))
                .replace("HERE", &here);
            let path = directory.join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let host = Host {
            path: directory.clone().into_os_string(),
            os_release: DEBIAN.to_owned(),
            root: true,
            terminal: true,
        };
        Fake { host, directory }
    }

    fn install(&self, consent: Consent, typed: &str) -> Result<(), String> {
        let needs = [
            need("there", "there-package", "is there"),
            need("tool", "tool-package", "is missing"),
        ];
        install(&needs, consent, "the test", &self.host, &mut typed.as_bytes())
    }

    /// What apt-get and sudo were asked for.
    fn asked(&self) -> String {
        fs::read_to_string(self.directory.join("asked")).unwrap_or_default()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // A directory that stays is no failure.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
