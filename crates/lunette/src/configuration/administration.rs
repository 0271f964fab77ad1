//! `[administration]`: where the daemon is administered over TCP. All of it has to be said: there is no such thing
//! without TLS, or without a token.

use super::reader::Table;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where, what is shown, and what is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Administration {
    /// The address.
    pub listen: SocketAddr,
    /// The certificate with those that signed it, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, for its owner's eyes only.
    pub key: PathBuf,
    /// The file with the token, for its owner's eyes only.
    pub token_file: PathBuf,
}

/// The section, where all of it is there.
pub fn read(table: Table<'_>) -> Option<Administration> {
    let listen = table.needed("listen", "\"192.0.2.7:3262\"").and_then(|listen| table.take(&listen, address));
    let path = |key, example| table.needed(key, example).map(|path| PathBuf::from(path.value));
    let certificate = path("certificate", "\"/etc/lunette/cert.pem\"");
    let key = path("key", "\"/etc/lunette/key.pem\"");
    let token_file = path("token-file", "\"/etc/lunette/token\"");
    table.finish();
    Some(Administration { listen: listen?.value, certificate: certificate?, key: key?, token_file: token_file? })
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is no address with a port; write \"192.0.2.7:3262\" or \"[::]:3262\"")
}
