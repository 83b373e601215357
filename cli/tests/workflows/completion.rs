//! Completion as shells do it, each with the script that `farrier completions` prints for it.

use std::path::Path;
use std::process::Command;

use tokio::runtime::Runtime;

use crate::harness::*;
use crate::terminal::Terminal;

const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];
const MACHINE: &str = "machine: spare2\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\nlabels: {rack: a1}\n";

/// A server with two machines, a template and a workflow; what is typed, and what has to stand there then.
struct Scene {
    address: String,
    home: tempfile::TempDir,
    lines: Vec<(String, String)>,
}

impl Scene {
    fn new(runtime: &Runtime) -> (Self, Agent) {
        let (address, agent) = runtime.block_on(prepared(TEMPLATE));
        let home = tempfile::TempDir::new().expect("directory");
        let machine = home.path().join("spare2.yaml");
        std::fs::write(&machine, MACHINE).expect("write");
        let machine = machine.display().to_string();
        text(&farrier(&address, &["machine", "apply", "-f", &machine]));
        let create = [
            "workflow", "create", "-t", "debian", "-q", "-r", DEVICE, "--name", "monday",
        ];
        let id = text(&farrier(&address, &create));
        let short = id[..13].to_owned();
        let line = |typed: &str, then: &str| (typed.to_owned(), then.to_owned());
        let lines = vec![
            line("farrier machi", "farrier machine"),
            line("farrier machine get sp", "farrier machine get spare2"),
            line("farrier machine boot-log sp", "farrier machine boot-log spare2"),
            line("farrier run sp", "farrier run spare2"),
            line(
                "farrier workflow create -t deb",
                "farrier workflow create -t debian",
            ),
            line("farrier template get d", "farrier template get debian"),
            line(
                &format!("farrier workflow state {}", &id[..3]),
                &format!("farrier workflow state {short}"),
            ),
            line("farrier workflow cancel mon", "farrier workflow cancel monday"),
            line("farrier workflow get @l", "farrier workflow get @last"),
            line(
                "farrier workflow list --state runn",
                "farrier workflow list --state running",
            ),
            line("farrier machine list -l ra", "farrier machine list -l rack=a1"),
            line("farrier -n defa", "farrier -n default"),
        ];
        (Self { address, home, lines }, agent)
    }

    /// A shell that reads nothing of this host, with the script in its home.
    fn shell(&self, program: &str, arguments: &[&str]) -> Command {
        let shell = arguments
            .iter()
            .find(|word| SHELLS.contains(word))
            .unwrap_or(&program);
        let script = text(&farrier(&self.address, &["completions", shell]));
        std::fs::write(self.home.path().join("script"), script).expect("write");
        let farrier = Path::new(env!("CARGO_BIN_EXE_farrier"))
            .parent()
            .expect("a folder");
        // The environment of a command that may ask this server.
        let mut command = command(&self.address, &[]);
        let asks: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        command = Command::new(program);
        command.args(arguments).env_clear().envs(asks);
        command
            .env("HOME", self.home.path())
            .env("PATH", format!("{}:/usr/bin:/bin", farrier.display()))
            .env("TERM", "dumb")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.home.path());
        command
    }

    /// Types each line with the key for completion behind it.
    fn each_is_completed(&self, program: &str, command: Command, prepare: &str) {
        let mut terminal = Terminal::with_keyboard(command);
        terminal.types(&format!("{prepare}; echo rea''dy\n"));
        terminal.shows(|seen| seen.contains("ready"), || ());
        for (typed, then) in &self.lines {
            // bash looks for names of hosts behind an @ and asks nobody else.
            if program == "bash" && typed.contains('@') {
                continue;
            }
            let before = terminal.seen.len();
            terminal.types(&format!("{typed}\t"));
            terminal.shows(
                |seen| seen[before.min(seen.len())..].contains(then.as_str()),
                || (),
            );
            // Ctrl-U: the line is gone.
            terminal.types("\x15");
        }
        terminal.types("exit\n");
        assert!(terminal.child.wait().expect("it ends").success());
    }
}

#[test]
fn bash_completes_what_the_server_has() {
    let runtime = Runtime::new().expect("runtime");
    let (scene, _agent) = Scene::new(&runtime);
    let bash = scene.shell(
        "setsid",
        &["--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"],
    );
    scene.each_is_completed(
        "bash",
        bash,
        "PS1='$ '; bind 'set enable-bracketed-paste off'; . ./script",
    );
}

/// As a file where zsh looks for functions: the first key completes, too.
#[test]
fn zsh_completes_what_the_server_has() {
    let runtime = Runtime::new().expect("runtime");
    let (scene, _agent) = Scene::new(&runtime);
    let zsh = scene.shell("setsid", &["--ctty", "--wait", "zsh", "-f", "-i"]);
    let prepare = "PS1='$ '; cp script _farrier; fpath=($HOME $fpath); autoload -Uz compinit; compinit -u -D";
    scene.each_is_completed("zsh", zsh, prepare);
}

#[test]
fn fish_completes_what_the_server_has() {
    let runtime = Runtime::new().expect("runtime");
    let (scene, _agent) = Scene::new(&runtime);
    for (typed, then) in &scene.lines {
        let ask = "source ./script; complete -C $argv[1]";
        let mut fish = scene.shell("fish", &["--no-config", "-c", ask, typed]);
        let offered = text(&fish.output().expect("fish runs"));
        let words: Vec<&str> = offered
            .lines()
            .filter_map(|line| line.split('\t').next())
            .collect();
        let word = then.rsplit(' ').next().expect("a word");
        assert!(words.contains(&word), "{typed}: {offered:?}");
    }
}

/// The shell waits for it: it says nothing, and is no failure.
#[test]
fn without_a_server_only_flags_are_offered_and_nothing_is_said() {
    let mut asked = command("127.0.0.1:1", &["--", "farrier", "machine", "get", ""]);
    let asked = asked
        .env("FARRIER_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "3")
        .output()
        .expect("farrier runs");
    assert!(asked.status.success(), "{asked:?}");
    assert_eq!(String::from_utf8_lossy(&asked.stderr), "");
    let offered = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(offered.lines().all(|line| line.starts_with("--")), "{offered}");
}
