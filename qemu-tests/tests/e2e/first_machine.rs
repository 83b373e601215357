//! docs/how-to/first-machine.md, followed as a person does: from a machine that nobody knows to an installed system.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use ::image::apt::Suite;
use ::image::{Profile, debian_disk};
use qemu_tests::lab::machine::Blueprint;
use qemu_tests::lab::process::Guarded;
use qemu_tests::lab::server::Server;
use qemu_tests::lab::wait::{Look, wait_until};

use crate::scene::{Scene, path_from, scene};

const WITHIN: Duration = Duration::from_secs(300);

/// Every command of the page. Who changes the page looks at the test.
const TYPED: [&str; 11] = [
    "farrier machine boot-log --strangers -f",
    "farrier machine apply -f node1.yaml",
    "farrier machine boot-log node1 -f",
    "farrier machine get node1",
    "farrier template create -f debian.yaml",
    "farrier workflow create -t debian -r device_1=node1",
    "farrier workflow list",
    "farrier workflow wait ID --timeout 30m",
    "farrier workflow logs -f ID",
    "farrier workflow explain ID",
    "farrier workflow retry ID",
];

#[test]
fn the_page_leads_from_an_unknown_machine_to_an_installed_one() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/how-to/first-machine.md");
    let page = fs::read_to_string(page).unwrap();
    assert_eq!(blocks(&page, "sh").concat().lines().collect::<Vec<_>>(), TYPED);
    let [record] = <[String; 1]>::try_from(blocks(&page, "yaml machine")).unwrap();
    let [template] = <[String; 1]>::try_from(blocks(&page, "yaml template")).unwrap();
    scene(|scene| {
        let name = debian_disk::file_name(&Suite::default(), Profile::Lab);
        scene.serve_file(&path_from("FARRIER_LAB_DIR").join("images").join(&name), &name);
        let person = Person::new(scene);
        let mut machine = scene
            .world
            .stranger(Blueprint::numbered(1).memory_mib(1024).disk(4 << 30))
            .unwrap();
        let mac = machine.mac().to_owned();

        machine.power_on().unwrap();
        person.watches(TYPED[0], &mac);
        fs::write(person.folder.join("node1.yaml"), record).unwrap();
        person.types(TYPED[1]);
        machine.power_cut();
        machine.power_on().unwrap();
        person.watches(TYPED[2], "ATTACH");
        wait_until(
            "the disk in what is shown of the machine",
            WITHIN,
            || match person.types(TYPED[3]) {
                shown if shown.contains("farrier-lab-0") => Look::Done(()),
                shown => Look::not_yet(shown),
            },
        )
        .unwrap();

        fs::write(person.folder.join("debian.yaml"), template).unwrap();
        person.types(TYPED[4]);
        let made = person.types(TYPED[5]);
        let id = made
            .split_whitespace()
            .find(|word| word.parse::<uuid::Uuid>().is_ok());
        let id = id.unwrap_or_else(|| panic!("no id in {made:?}"));
        let list = person.types(TYPED[6]);
        assert!(list.contains("debian"), "{list}");
        person.types(&TYPED[7].replace("ID", id));
        let log = person.types(&TYPED[8].replace("ID", id));
        assert!(log.contains("sha256"), "{log}");
        let explained = person.types(&TYPED[9].replace("ID", id));
        assert!(explained.contains("SUCCESS"), "{explained}");
        machine.wait_for_serial("login:", WITHIN).unwrap();
    });
}

/// Somebody at a terminal of the server's host.
struct Person {
    folder: PathBuf,
    /// Where `farrier` is found, and whom it asks.
    environment: [(&'static str, String); 3],
}

impl Person {
    fn new(scene: &Scene) -> Person {
        let farrier = &scene.world.server.paths().farrier;
        let path = format!("{}:/usr/bin:/bin", farrier.parent().unwrap().display());
        Person {
            folder: scene.world.run_dir.sub("person").unwrap(),
            environment: [
                ("PATH", path),
                ("FARRIER_SERVER", Server::API.to_owned()),
                ("FARRIER_TOKEN", scene.world.server.token().unwrap().to_string()),
            ],
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        // `exec`, so that it is the command itself that is ended.
        command
            .args(["-c", &format!("exec {line}")])
            .current_dir(&self.folder);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Types it, and gives what it prints; it must not fail.
    fn types(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}{complained}");
        said
    }

    /// Types it, waits for the words, and ends it.
    fn watches(&self, line: &str, words: &str) {
        let mut child = self.command(line).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let watched = Guarded::from(child);
        let (said, heard) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        let mut all = Vec::new();
        while !all.iter().any(|line: &String| line.contains(words)) {
            let next = heard.recv_timeout(WITHIN);
            all.push(next.unwrap_or_else(|_| panic!("{line}: {words:?} is not in {all:#?}")));
        }
        drop(watched);
    }
}

/// What stands in the blocks of this kind.
fn blocks(page: &str, kind: &str) -> Vec<String> {
    let begin = format!("```{kind}\n");
    let parts = page.split(&begin).skip(1);
    parts
        .filter_map(|part| part.split_once("```").map(|(block, _)| block.to_owned()))
        .collect()
}
