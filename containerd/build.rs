//! Compiles the part of containerd's API that is called, with protox: a plain `cargo build` needs no protoc.

const SERVICES: [&str; 9] = [
    "containers",
    "content",
    "diff",
    "images",
    "leases",
    "namespaces",
    "snapshots",
    "tasks",
    "version",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = SERVICES.map(|service| format!("containerd/services/{service}.proto"));
    let files = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(files)?;
    Ok(())
}
