//! `start_image KEEPER LAYER ROUNDS [ARGUMENT…]`: runs a program of an image of one layer as the agent does, again and again.
//! KEEPER is the agent's binary. Prints for each round the microseconds to the first line of output, and to the end.
//!
//! `start_image --peer COMMAND…` measures another runtime in the same way: once, a line that says "started".

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use container::group::Limits;
use container::{Ended, Group, Image, Place, Request, plan, read_status};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [peer, program, arguments @ ..] = args.as_slice()
        && peer == "--peer"
    {
        let mut command = Command::new(program);
        command.args(arguments);
        return said(first_line(&mut command));
    }
    let [keeper, layer, rounds, arguments @ ..] = args.as_slice() else {
        eprintln!("usage: start_image KEEPER LAYER ROUNDS ARGUMENT…");
        return ExitCode::from(2);
    };
    let rounds: u32 = rounds.parse().unwrap_or(1);
    let image = Image {
        layers: vec![PathBuf::from(layer)],
        entrypoint: arguments.to_vec(),
        ..Image::default()
    };
    said((0..rounds).try_for_each(|_| start(Path::new(keeper), &image)))
}

fn said(outcome: Result<(), Box<dyn Error>>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("start_image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn first_line(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let first = begin.elapsed();
    let status = child.wait()?;
    if line != "started\n" || !status.success() {
        return Err(format!("it printed {line:?}, and ended so: {status}").into());
    }
    println!("{} {}", first.as_micros(), begin.elapsed().as_micros());
    Ok(())
}

fn start(keeper: &Path, image: &Image) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let name = format!("farrier-bench-{}", std::process::id());
    let folder = std::env::temp_dir().join(&name);
    fs::create_dir(&folder)?;
    let group = Group::make(&name, &Limits::default())?;
    let place = Place {
        status: folder.with_extension("status"),
        folder: folder.clone(),
        writable_bytes: 64 << 20,
        hostname: "bench".to_owned(),
        group: group.as_ref().map(|group| group.path().to_owned()),
        ..Place::default()
    };
    let plan = plan(image, &Request::default(), &place)?;
    let mut child = Command::new(keeper)
        .arg("container-init")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    stdin.write_all(&serde_json::to_vec(&plan)?)?;
    drop(stdin);
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let first = begin.elapsed();
    output.read_to_string(&mut line)?;
    child.wait()?;
    if let Some(group) = group {
        group.end()?;
    }
    let ended = read_status(&place.status)?;
    fs::remove_file(&place.status)?;
    fs::remove_dir(&folder)?;
    if line.is_empty() || ended != (Ended::Exited { code: 0 }) {
        return Err(format!("it printed {line:?}, and ended so: {ended:?}").into());
    }
    println!("{} {}", first.as_micros(), begin.elapsed().as_micros());
    Ok(())
}
