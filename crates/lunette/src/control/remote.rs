//! The administration over TCP: only with TLS, and only for whoever shows the token.

use super::dispatch::{self, problem};
use super::problem::Problem;
use super::serving::{self, converse};
use crate::configuration::Administration;
use crate::failure::Failure;
use crate::serve::administrator::Administrator;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::{self, Next};
use axum::response::Response;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio_rustls::TlsAcceptor;

/// More than certificates, a key or a token have.
const MAXIMUM_BYTES: u64 = 1 << 20;

/// The least letters of a token: 128 bits as hexadecimal digits.
pub const TOKEN_LETTERS: usize = 32;
/// How long a stranger may take to agree on a cipher.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// How long somebody with a wrong token waits to hear so.
const WRONG_TIME: Duration = Duration::from_millis(500);
/// How long accepting rests when the system has no descriptors.
const REST: Duration = Duration::from_millis(100);

/// Where it listens, and what it shows and asks for.
pub struct Remote {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    /// Only what can be compared is kept.
    token: Arc<[u8; 32]>,
}

impl Remote {
    /// Opens it. Key and token must be the owner's alone.
    ///
    /// `inherited` is the listener where the process before this one has opened it.
    pub fn open(wanted: &Administration, inherited: Option<TcpListener>) -> Result<Remote, Failure> {
        let Administration { listen, certificate, key, token_file } = wanted;
        let failed = |path: &Path, why: String| Failure::input(format!("[administration]: {}: {why}", path.display()));
        let certificates = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(certificate, format!("is no certificate in PEM: {error}")))?;
        if certificates.is_empty() {
            return Err(failed(certificate, "has no certificate in it".to_owned()));
        }
        private(key).map_err(|why| failed(key, why))?;
        let secret = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| failed(key, format!("is no private key in PEM: {error}")))?;
        let token = token(token_file).map_err(|why| failed(token_file, why))?;
        let settings = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, secret))
            .map_err(|error| failed(certificate, format!("cannot be served with {}: {error}", key.display())))?;
        let listener = inherited.map_or_else(|| TcpListener::bind(listen), Ok).map_err(|error| {
            Failure::input(format!("[administration]: {listen}: {error}; choose another address or port"))
        })?;
        listener.set_nonblocking(true).map_err(Failure::runtime)?;
        Ok(Remote { listener, acceptor: TlsAcceptor::from(Arc::new(settings)), token })
    }

    /// Its socket once more.
    pub fn socket(&self) -> Option<TcpListener> {
        self.listener.try_clone().ok()
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves it for ever.
    pub async fn serve(self, administrator: Administrator) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let token = self.token;
        let asked = middleware::from_fn(move |request: Request, next: Next| {
            let token = Arc::clone(&token);
            async move { admit(&token, request, next).await }
        });
        let router = dispatch::router(administrator).layer(asked);
        let places = serving::places();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(_) => {
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let (acceptor, router) = (self.acceptor.clone(), router.clone());
            tokio::spawn(async move {
                match tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => converse(stream, router, place).await,
                    Ok(Err(error)) => tracing::debug!(%peer, "the administration: no TLS: {error}"),
                    Err(_) => tracing::debug!(%peer, "the administration: no TLS in time"),
                }
            });
        }
    }
}

/// Lets a request through that shows the token.
async fn admit(token: &[u8; 32], mut request: Request, next: Next) -> Response {
    let shown = request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let shown = shown.and_then(|header| header.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    if let Some((_, shown)) = shown
        && digest(shown.trim()).ct_eq(token).into()
    {
        request.extensions_mut().insert(dispatch::FromAfar);
        return next.run(request).await;
    }
    tokio::time::sleep(WRONG_TIME).await;
    let what = if shown.is_some() { "the token is wrong" } else { "a token is asked for" };
    let mut answer = problem(&Problem::new("unauthorized", what, "send Authorization: Bearer TOKEN"));
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

/// What is compared: as long for every token, so that how long it takes says nothing.
fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The token of a file that is its owner's alone.
fn token(path: &Path) -> Result<Arc<[u8; 32]>, String> {
    let text = read_token(path)?;
    Ok(Arc::new(digest(&text)))
}

/// The text of a token's file, for the daemon and for whoever asks it.
pub fn read_token(path: &Path) -> Result<zeroize::Zeroizing<String>, String> {
    private(path)?;
    let text =
        zeroize::Zeroizing::new(stores::host::read_to_string(path, MAXIMUM_BYTES).map_err(|error| error.to_string())?);
    let token = zeroize::Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned());
    match token.len() {
        TOKEN_LETTERS.. => Ok(token),
        length => Err(format!("a token of {length} letters is short; make one with: openssl rand -hex 32")),
    }
}

/// Whether nobody but its owner may read a file.
fn private(path: &Path) -> Result<(), String> {
    let facts = stores::host::metadata(path).map_err(|error| error.to_string())?;
    match facts.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => Err(format!("others than its owner may read it; chmod 600 {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn a_token_is_long_and_its_owners_alone() {
        let folder = sim::daemon::Folder::new();
        let path = folder.path().join("token");
        let with = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            read_token(&path).map(|token| token.to_string())
        };
        let long = "0123456789abcdef0123456789abcdef";
        assert_eq!(with(&format!("{long}\n"), 0o600).as_deref(), Ok(long));
        assert!(with(long, 0o640).unwrap_err().contains("chmod 600"));
        assert!(with("short", 0o600).unwrap_err().contains("openssl rand"));
    }
}
