//! `farrier serve`: the control plane and the netboot services in one process.

mod boot_image;
mod config;
mod descriptors;
mod netboot;
mod notify;
mod outside;
mod pulls;
mod store_check;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use access::{Authority, Pin};
use boots::{Boots, BootsConfig};
use nix::sys::stat::{Mode, umask};
use server::{ControlPlane, Listeners};
use store::blobs::Blobs;
use store::{RedbStore, StoreHandle};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(crate) use config::ServeArgs;
use config::{Contents, ServeConfig};

use crate::commands::admin_token::keep;
use crate::commands::{LogFormat, log_to_stderr};
use crate::failure::{Failure, chain};
use crate::logins::{AUTHORITY, FIRST_TOKEN};
use crate::terminal::say;

/// The store's file in the data directory.
const STORE: &str = "farrier.redb";
/// For requests that are under way when we are told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

pub(crate) fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    let config = ServeConfig::resolve(args)?;
    log_to_stderr(config.log_format, "info");
    // What it keeps is for its own user: records, templates, logs and keys.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(config));
    // A blocking read of the store must not keep the process.
    runtime.shutdown_timeout(STOP_WITHIN);
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: ServeConfig) -> Result<(), Failure> {
    // Before anything is started: an early signal must not be lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let descriptors = descriptors::raise();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        data = %config.data_dir.display(),
        boot = %config.boots.boot_dir.display(),
        "farrier begins"
    );
    make_data_dir(&config)?;
    let boot_dir = config.boots.boot_dir.clone();
    let looked = tokio::task::spawn_blocking(move || boot_image::check(&boot_dir)).await;
    looked.map_err(|error| {
        Failure::Failed(format!("looking at the boot image broke off: {}", chain(&error)))
    })??;
    if config.store_check {
        let data_dir = config.data_dir.clone();
        let checked = tokio::task::spawn_blocking(move || store_check::run(&data_dir));
        tokio::select! {
            checked = checked => {
                checked.map_err(|error| Failure::Failed(format!("checking the store broke off: {}", chain(&error))))??;
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
    let authority =
        Authority::open(&config.data_dir.join(AUTHORITY)).map_err(|error| Failure::Failed(chain(&error)))?;
    let identity = authority
        .identity()
        .map_err(|error| Failure::Failed(format!("no certificate can be made: {}", chain(&error))))?;
    let control = open(&config, authority.pin()).await?;
    make_first_token(&control, &config.data_dir.join(FIRST_TOKEN), config.log_format).await?;
    look_at_descriptors(&control, descriptors).await;
    let wanted = SocketAddr::from((config.listen, config.grpc_port));
    let grpc = TcpListener::bind(wanted).await.map_err(|error| {
        Failure::Failed(format!(
            "gRPC cannot listen on {wanted}: {error}; stop the other server (`ss -lntp | grep :{}` names it) or \
             choose another port with --grpc-port",
            config.grpc_port
        ))
    })?;
    let grpc_address = grpc.local_addr()?;
    let wanted = config.api_listen;
    let api = TcpListener::bind(wanted).await.map_err(|error| {
        Failure::Failed(format!(
            "the API for people cannot listen on {wanted}: {error}; stop the other server (`ss -lntp | grep :{}` names it) or \
             choose another address or port with --api-listen",
            wanted.port()
        ))
    })?;
    let api_address = api.local_addr()?;
    let listeners = Listeners {
        agents: grpc,
        people: api,
        identity,
    };
    let stop = CancellationToken::new();
    let mut serving = tokio::spawn({
        let (control, stop) = (control.clone(), stop.clone());
        async move { control.serve(listeners, stop.cancelled_owned()).await }
    });
    let netboot = Arc::new(netboot::Netboot::new(control.clone()));
    let boots = BootsConfig {
        grpc_port: grpc_address.port(),
        besides: registry::router(control.shelf(), control.catalogue(), config.outside),
        ..config.boots
    };
    let mut boots = match Boots::start(boots, netboot.clone(), netboot, stop.clone()).await {
        Ok(boots) => boots,
        Err(error) => {
            stop.cancel();
            // It ends by itself now; what it says is about something else.
            let _ = serving.await;
            return Err(Failure::Failed(chain(&error)));
        }
    };
    let dhcp = boots
        .dhcp
        .map_or_else(|| "off".to_owned(), |dhcp| dhcp.to_string());
    match config.log_format {
        LogFormat::Text => say(format_args!(
            "farrier: ready grpc={grpc_address} api={api_address} http={} dhcp={dhcp} tftp={}",
            boots.http, boots.tftp
        )),
        LogFormat::Json => tracing::info!(
            grpc = %grpc_address, api = %api_address, http = %boots.http, dhcp, tftp = %boots.tftp,
            "ready"
        ),
    }
    notify::ready();
    let mut served = None;
    let mut netboot_ended = false;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut serving => served = Some(ended),
        _ = &mut boots.done => netboot_ended = true,
    }
    tracing::info!("stopping");
    notify::stopping();
    stop.cancel();
    let ended_by_itself = served.is_some();
    let served = match served {
        Some(served) => served,
        None => serving.await,
    };
    let broke_down = |error: &dyn std::error::Error| {
        Failure::Failed(format!("the control plane broke down: {}", chain(error)))
    };
    served
        .map_err(|error| broke_down(&error))?
        .map_err(|error| broke_down(&error))?;
    if ended_by_itself {
        return Err(Failure::Failed(
            "the control plane ended without having been told to; the log says why".into(),
        ));
    }
    if netboot_ended {
        return Err(Failure::Failed(
            "the netboot services ended; the log says why".into(),
        ));
    }
    if tokio::time::timeout(STOP_WITHIN, boots.done).await.is_err() {
        tracing::warn!("transfers that were under way are broken off");
    }
    Ok(())
}

/// Says when there are not enough for the machines that there are.
async fn look_at_descriptors(control: &ControlPlane, raised: Result<u64, nix::errno::Errno>) {
    let limit = match raised {
        Ok(limit) => limit,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the limit of file descriptors stays as it is: it cannot be raised"
            );
            return;
        }
    };
    match control.machine_count().await {
        Ok(machines) => {
            if let Some(said) = descriptors::too_few(limit, machines) {
                tracing::warn!("{said}");
            }
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "whether file descriptors are enough is not known: the machines cannot be counted"
            );
        }
    }
}

/// How large the store is, in words.
fn look_at_data(data_dir: &Path) -> Result<String, String> {
    let store = data_dir.join(STORE);
    let there = std::fs::metadata(&store).map_err(|error| format!("{}: {error}", store.display()))?;
    Ok(format!(
        "a store of {}",
        crate::views::progress::bytes(there.len())
    ))
}

fn make_data_dir(config: &ServeConfig) -> Result<(), Failure> {
    std::fs::create_dir_all(&config.data_dir).map_err(|error| {
        Failure::Failed(format!(
            "cannot make data directory {}: {error}; name another with --data-dir",
            config.data_dir.display()
        ))
    })
}

/// Keeps the token of whoever sets the server up in a file for its owner alone: before the server knows it, so that there is never
/// one that nobody has.
async fn make_first_token(control: &ControlPlane, path: &Path, format: LogFormat) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Failed(chain(error));
    let Some(token) = control.first_token().await.map_err(|error| failed(&error))? else {
        return Ok(());
    };
    keep(path, &token)?;
    control
        .keep_first_token(&token)
        .await
        .map_err(|error| failed(&error))?;
    match format {
        LogFormat::Text => say(format_args!(
            "farrier: the first token, of role admin, is in {}: commands on this host find it there; make others with `farrier \
             token create`",
            path.display()
        )),
        LogFormat::Json => tracing::info!(file = %path.display(), "the first token, of role admin, is made"),
    }
    Ok(())
}

async fn open(config: &ServeConfig, authority: Pin) -> Result<ControlPlane, Failure> {
    let store =
        RedbStore::open(config.data_dir.join(STORE)).map_err(|error| Failure::Failed(chain(&error)))?;
    let blobs =
        |folder| Blobs::open(config.data_dir.join(folder)).map_err(|error| Failure::Failed(chain(&error)));
    let contents = Contents {
        blobs: blobs("blobs")?,
        images: blobs("registry")?,
    };
    let control = ControlPlane::open(StoreHandle::new(store), config.control(contents, authority)).await;
    control.map_err(|error| Failure::Failed(chain(&error)))
}
