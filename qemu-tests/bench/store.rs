//! What CPU time it takes to write rows, to verify a store before it is opened, and to reckon checksums.
//!
//! `cargo run --release -p store --example speed -- DIRECTORY ROWS BYTES` makes a store of so many rows with values of
//! so many bytes in the directory, which is new, and prints the times.

use std::path::PathBuf;
use std::time::Duration;

use store::offline::{self, Named, Target};
use store::{Commit, Operation, RedbStore, Store};
use twox_hash::XxHash3_64;

/// As the store reckons it.
fn checksum(key: &[u8], revision: u64, value: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot_with_seed(revision, key), value)
}

/// The process's CPU time: the same on a busy machine.
fn now() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    Duration::from(time.expect("Linux has that clock"))
}

fn since(began: Duration) -> Duration {
    now() - began
}

const ROWS_PER_COMMIT: usize = 100;
const COMMITS_PER_GROUP: usize = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| {
        args.next()
            .ok_or_else(|| format!("no {what}: see the file's beginning"))
    };
    let data = PathBuf::from(next("directory")?);
    let rows: usize = next("number of rows")?.parse()?;
    let bytes: usize = next("number of bytes")?.parse()?;
    std::fs::create_dir(&data)?;
    let file = data.join(offline::FILE);

    let store = RedbStore::open(&file)?;
    let value = |n: usize| -> Vec<u8> {
        (0..bytes)
            .map(|at| b' ' + ((n * 7 + at * 13) % 90) as u8)
            .collect()
    };
    let commits: Vec<Commit> = (0..rows.div_ceil(ROWS_PER_COMMIT))
        .map(|_| Commit::default())
        .collect();
    let mut written = 0;
    let began = now();
    for group in commits.chunks(COMMITS_PER_GROUP) {
        let mut group = group.to_vec();
        for commit in &mut group {
            for _ in 0..ROWS_PER_COMMIT.min(rows - written) {
                commit.operations.push(Operation::Put {
                    key: format!("archived/01a20ebe-4a9f-7538-8e12-{written:012}").into(),
                    value: value(written).into(),
                });
                written += 1;
            }
        }
        for answer in store.commit_group(&group.iter().collect::<Vec<_>>()) {
            answer?;
        }
    }
    println!("written    {rows} rows of {bytes} B in {:.2?}", since(began));
    let one = Commit {
        operations: vec![Operation::Put {
            key: "machine/node1".into(),
            value: value(1).into(),
        }],
        ..Commit::default()
    };
    let began = now();
    for _ in 0..1000 {
        store.commit(&one)?;
    }
    println!("committed  one row, {:.0?} each (of 1000)", since(began) / 1000);
    let began = now();
    let read = store.range(b"archived/", b"archived0", rows)?.len();
    println!("read       {read} rows in {:.2?}", since(began));
    drop(store);

    let (key, value) = (format!("archived/01a20ebe-4a9f-7538-8e12-{:012}", 7), value(7));
    let began = now();
    let mut sum = 0;
    for _ in 0..100_000 {
        sum ^= std::hint::black_box(checksum(key.as_bytes(), sum, &value));
    }
    println!(
        "checksum   of such a row in {:.0?}, {sum:x}",
        since(began) / 100_000
    );

    println!("file       {} B", std::fs::metadata(&file)?.len());
    for _ in 0..2 {
        let began = now();
        offline::verify(&data, &mut |_| {})?;
        println!("verified   in {:.2?}", since(began));
    }
    let began = now();
    drop(RedbStore::open(&file)?);
    println!("opened     and closed in {:.2?}", since(began));
    let began = now();
    offline::export(
        &data,
        &|_| Named::default(),
        Target::Tar(&mut std::io::sink()),
        &mut |_| {},
    )?;
    println!("exported   in {:.2?}", since(began));
    Ok(())
}
