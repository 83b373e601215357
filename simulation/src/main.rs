//! `simulation --seeds N [--seed S] [--machines M] [--steps K] [--servers R] [--trace]`: what `cargo xtask simulate` runs.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use simulation::coverage::Coverage;
use simulation::{Failure, Settings, run};

const HELP: &str = "\
Farrier's coordinator and agents in simulated worlds, one for each seed.

  --seeds N      this many seeds (default 100), from --seed on
  --seed S       the first seed (default 1); alone: only this one
  --machines M   in each world; default: by chance, up to 1,000
  --steps K      in which things go wrong (default 4,000); then everything has to come to its end
  --small        worlds of a few machines, as the tests have them
  --servers R    over one store (default 1; the coordinator is made for one, and more break soon)
  --trace        tell every step of the world
";

struct Wanted {
    first: u64,
    count: u64,
    settings: Settings,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match wanted(&words) {
        Err(problem) => {
            eprintln!("simulation: {problem}\n\n{HELP}");
            ExitCode::from(2)
        }
        Ok(wanted) => simulate(&wanted),
    }
}

fn wanted(words: &[String]) -> Result<Wanted, String> {
    let mut settings = Settings {
        steps: 4_000,
        large: true,
        ..Settings::new(1)
    };
    let (mut first, mut count) = (None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            value
                .parse()
                .map_err(|_| format!("{word} needs a number, not {value:?}"))
        };
        match word.as_str() {
            "--seeds" => count = Some(number()?),
            "--seed" => first = Some(number()?),
            "--machines" => {
                settings.machines = Some(usize::try_from(number()?.clamp(1, 1000)).unwrap_or(1000))
            }
            "--steps" => settings.steps = number()?,
            "--servers" => settings.servers = usize::try_from(number()?.clamp(1, 8)).unwrap_or(1),
            "--small" => settings.large = false,
            "--trace" => settings.trace = true,
            other => return Err(format!("{other:?} is not known")),
        }
    }
    let count = count.unwrap_or(if first.is_some() { 1 } else { 100 });
    Ok(Wanted {
        first: first.unwrap_or(1),
        count,
        settings,
    })
}

/// Seeds are shared out to threads; each world is on one.
fn simulate(wanted: &Wanted) -> ExitCode {
    let began = Instant::now();
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let over = AtomicBool::new(false);
    let total = Mutex::new(Coverage::default());
    let failure: Mutex<Option<Box<Failure>>> = Mutex::new(None);
    let threads = match wanted.settings.trace {
        true => 1,
        false => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let work = || {
        while !over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= wanted.count {
                break;
            }
            let seed = wanted.first + number;
            match run(Settings {
                seed,
                ..wanted.settings
            }) {
                Ok(coverage) => {
                    if let Ok(mut total) = total.lock() {
                        total.add(&coverage);
                    }
                }
                Err(broken) => {
                    over.store(true, Ordering::Relaxed);
                    if let Ok(mut failure) = failure.lock() {
                        failure.get_or_insert(broken);
                    }
                }
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(50) {
                eprintln!(
                    "{done} of {} seeds, {:.1} s",
                    wanted.count,
                    began.elapsed().as_secs_f64()
                );
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let total = total.into_inner().unwrap_or_default();
    print!("{total}");
    let seeds = done.into_inner();
    #[allow(clippy::cast_precision_loss, reason = "for people to read")]
    let (per_second, steps_per_second) = (seeds as f64 / seconds, total.steps as f64 / seconds);
    println!(
        "{seeds} seeds, {} workflows, {} steps in {seconds:.1} s: {per_second:.1} seeds/s, {steps_per_second:.0} steps/s",
        total.workflows, total.steps
    );
    match failure.into_inner().ok().flatten() {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("\n{failure}");
            println!("see it again: {} [--trace]", failure.again());
            ExitCode::FAILURE
        }
    }
}
