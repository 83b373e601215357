//! Tells the service manager how far the server is, where one started it (`Type=notify`).
//!
//! Source: sd_notify(3): a datagram to the socket that `NOTIFY_SOCKET` names, a path or, after an `@`, an abstract name.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Every socket is bound.
pub(super) fn ready() {
    tell("READY=1");
}

/// The server was told to stop.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

/// Nobody waits for it where there is no socket; one that takes nothing stops no server.
fn tell(state: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&name, state) {
        let name = name.display();
        tracing::warn!(%error, "NOTIFY_SOCKET is {name}, which cannot be told {state}: the service manager waits for it");
    }
}

fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that reads nothing must not hold up the server.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reaches_a_path_and_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let named = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();

        let name = format!("farrier-notify-{}", std::process::id());
        let abstract_one = SocketAddr::from_abstract_name(&name).unwrap();
        let unnamed = UnixDatagram::bind_addr(&abstract_one).unwrap();
        send(OsStr::new(&format!("@{name}")), "READY=1").unwrap();

        for socket in [named, unnamed] {
            let mut said = [0; 32];
            let len = socket.recv(&mut said).unwrap();
            assert_eq!(&said[..len], b"READY=1");
        }
        assert!(send(OsStr::new("/nothing/here"), "READY=1").is_err());
    }
}
