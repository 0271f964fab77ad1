//! Reading an address: libiscsi's URL and QEMU's list of options.

use super::{Address, AddressError, MAXIMUM_LUN, PORT};
use iscsi::auth::{Algorithm, Secret};
use iscsi::login::initiator::DigestOffer;
use iscsi::name::Name;
use std::path::PathBuf;
use std::str::FromStr;

const FORM: &str = "write iscsi://[USER@]HOST[:PORT][/TARGET[/LUN]]";
/// More than any address has: a line that came from elsewhere is not looked at for ever.
const MAXIMUM_BYTES: usize = 4096;

const DIGESTS: &[(&str, DigestOffer)] = &[
    ("crc32c", DigestOffer::Required),
    ("none", DigestOffer::None),
    ("crc32c-none", DigestOffer::Preferred),
    ("none-crc32c", DigestOffer::Allowed),
];

/// How an argument says this offer.
pub fn digest_word(offer: DigestOffer) -> &'static str {
    DIGESTS.iter().find(|(_, value)| *value == offer).map_or("none", |(word, _)| word)
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if text.len() > MAXIMUM_BYTES {
            return Err(AddressError::new(format!("an address of {} bytes; the longest has 4096", text.len())));
        }
        // What stands here may have a secret in it: an error names the part that is wrong and never the whole.
        if text.chars().any(char::is_control) {
            return Err(AddressError::new("an address has no control characters or line ends"));
        }
        match text.split_once("://") {
            Some(("iscsi", rest)) => url(rest),
            Some(("iser", _)) => Err(iser()),
            Some((scheme, _)) => Err(AddressError::new(format!("{scheme}:// is no address of a disk; {FORM}"))),
            None if text.starts_with("driver=") || text.starts_with("file.driver=") => list(text),
            None => Err(AddressError::new(format!("an address begins with iscsi://; {FORM}"))),
        }
    }
}

fn iser() -> AddressError {
    AddressError::new("iSER (RDMA) is not spoken here; write iscsi:// and the target's TCP portal")
}

fn url(rest: &str) -> Result<Address, AddressError> {
    let (place, arguments) = rest.split_once('?').unwrap_or((rest, ""));
    // A secret may have an @ and a slash in it; a host and a target's name may not.
    let (who, place) = match place.rsplit_once('@') {
        Some((who, place)) => (Some(who), place),
        None => (None, place),
    };
    let (portal, path) = place.split_once('/').unwrap_or((place, ""));
    let mut address = Address::new("", PORT);
    (address.host, address.port) = self::portal(portal)?;
    if let Some(who) = who {
        let (user, secret) = match who.find('%').or_else(|| who.find(':')) {
            Some(at) => (&who[..at], Some(&who[at + 1..])),
            None => (who, None),
        };
        address.user = Some(text("the user before @", user)?);
        address.secret = secret.map(|secret| self::secret("the secret before @", secret)).transpose()?;
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let (target, lun) = match path.split_once('/') {
        Some((target, lun)) => (target, Some(lun)),
        None => (path, None),
    };
    if !target.is_empty() {
        address.target = Some(self::target(target)?);
    } else if lun.is_some() {
        return Err(AddressError::new(format!("there is no target's name before the LUN; {FORM}")));
    }
    address.lun = lun.map(self::lun).transpose()?;
    for argument in arguments.split('&').filter(|argument| !argument.is_empty()) {
        let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
        take(&mut address, key, value)?;
    }
    Ok(address)
}

/// QEMU's `driver=iscsi,portal=HOST[:PORT],target=NAME,lun=N,…`; two commas are one in a value.
fn list(text: &str) -> Result<Address, AddressError> {
    let mut address = Address::new("", PORT);
    let mut pairs: Vec<String> = Vec::new();
    let mut begun = true;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if begun {
            pairs.push(String::new());
            begun = false;
        }
        match (character, pairs.last_mut()) {
            (',', Some(pair)) if characters.peek() == Some(&',') => {
                characters.next();
                pair.push(',');
            }
            (',', _) => begun = true,
            (other, Some(pair)) => pair.push(other),
            (_, None) => {}
        }
    }
    for pair in &pairs {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key.strip_prefix("file.").unwrap_or(key) {
            "driver" if value == "iscsi" => {}
            "driver" => return Err(AddressError::new(format!("driver={value} is another kind; write driver=iscsi"))),
            "transport" if value == "tcp" => {}
            "transport" => return Err(iser()),
            "portal" => (address.host, address.port) = portal(value)?,
            "target" => address.target = Some(name(value)?),
            "lun" => address.lun = Some(lun(value)?),
            "user" => address.user = Some(self::text("user", value)?),
            "password" => address.secret = Some(secret("password", value)?),
            "password-secret" => {
                return Err(AddressError::new(
                    "password-secret names an object of QEMU; write secret_file=PATH instead",
                ));
            }
            key => take(&mut address, &key.replace('-', "_"), value)?,
        }
    }
    if address.host.is_empty() {
        return Err(AddressError::new("portal=HOST[:PORT] is missing"));
    }
    Ok(address)
}

fn take(address: &mut Address, key: &str, value: &str) -> Result<(), AddressError> {
    let digest = || {
        let offer = DIGESTS.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)).map(|(_, offer)| *offer);
        offer.ok_or_else(|| AddressError::new(format!("{key}={value}: write crc32c or none")))
    };
    match key {
        "target_user" => address.target_user = Some(text(key, value)?),
        "target_password" => address.target_secret = Some(secret(key, value)?),
        "secret_file" => address.secret_file = Some(path(key, value)?),
        "target_secret_file" => address.target_secret_file = Some(path(key, value)?),
        "header_digest" => address.header_digest = Some(digest()?),
        "data_digest" => address.data_digest = Some(digest()?),
        "auth" => {
            let algorithm = Algorithm::from_name(value)
                .ok_or_else(|| AddressError::new(format!("auth={value}: write md5, sha1, sha-256 or sha3-256")))?;
            address.algorithm = Some(algorithm);
        }
        "initiator_name" => address.initiator_name = Some(name(value)?),
        "force_usn" => address.serial_number = Some(text(key, value)?),
        "timeout" => {
            let seconds = value.parse().ok().filter(|seconds| *seconds <= 86_400);
            let wrong = || AddressError::new(format!("timeout={value}: write seconds, at most a day"));
            address.timeout = Some(seconds.ok_or_else(wrong)?);
        }
        "iser" => return Err(iser()),
        // Of RDMA only.
        "LIBISCSI_RDMA_ACK_TIMEOUT" => {}
        key => {
            let known = "header_digest, data_digest, auth, target_user, target_password, secret_file, \
                         target_secret_file, initiator_name, force_usn and timeout";
            return Err(AddressError::new(format!("there is no argument {key}; there are {known}")));
        }
    }
    Ok(())
}

fn portal(text: &str) -> Result<(String, u16), AddressError> {
    let wrong = |what: String| Err(AddressError::new(format!("{what}; {FORM}")));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, after)) = rest.split_once(']') else {
                return wrong(format!("{text}: the bracket of the IPv6 address is not closed"));
            };
            // The zone of a link-local address, as URLs have it and as people write it.
            let host = host.replacen("%25", "%", 1);
            let number = host.split('%').next().unwrap_or_default();
            if number.parse::<std::net::Ipv6Addr>().is_err() {
                return wrong(format!("[{host}] is no IPv6 address"));
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return wrong(format!("after [{host}] comes :PORT or /, not {after}")),
            }
        }
        None if text.matches(':').count() > 1 => {
            return wrong(format!("{text}: an IPv6 address stands in brackets, as in iscsi://[::1]:3260"));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    if host.is_empty() {
        return wrong("the host is missing".to_owned());
    }
    let odd = |c: char| c.is_whitespace() || "\"'<>\\^`{|}#".contains(c);
    if let Some(odd) = host.chars().find(|c| odd(*c)) {
        return wrong(format!("a host's name has no {odd:?}"));
    }
    let Some(port) = port else { return Ok((host, PORT)) };
    match port.parse() {
        Ok(number) if number > 0 => Ok((host, number)),
        _ => wrong(format!("port {port:?} of {host} is no number from 1 to 65535")),
    }
}

fn target(encoded: &str) -> Result<String, AddressError> {
    name(&decoded("the target's name", encoded)?)
}

/// A name that a target may have. Not of one of the three formats: what is in the field is only compared.
fn name(text: &str) -> Result<String, AddressError> {
    match Name::lenient(text) {
        Ok(name) => Ok(name.into()),
        Err(error) => Err(AddressError::new(format!("the name {text:.240}: {error}"))),
    }
}

fn lun(text: &str) -> Result<u16, AddressError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && *number <= MAXIMUM_LUN);
    number.ok_or_else(|| AddressError::new(format!("LUN {text:?} is no number from 0 to {MAXIMUM_LUN}")))
}

fn text(what: &str, text: &str) -> Result<String, AddressError> {
    match text.is_empty() {
        true => Err(AddressError::new(format!("{what} is empty"))),
        false => Ok(text.to_owned()),
    }
}

fn secret(what: &str, text: &str) -> Result<Secret, AddressError> {
    match text.len() {
        0 => Err(AddressError::new(format!("{what} is empty"))),
        // How long it may be is the target's to say; longer than this none can be (RFC 7143 §12.1.4).
        1..=255 => Ok(Secret::weak(text.as_bytes())),
        length => Err(AddressError::new(format!("{what} has {length} bytes; the longest is 255"))),
    }
}

fn path(key: &str, value: &str) -> Result<PathBuf, AddressError> {
    Ok(PathBuf::from(text(key, &decoded(key, value)?)?))
}

fn decoded(what: &str, encoded: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(AddressError::new(format!("{what} {encoded:?}: after % come two hexadecimal digits")));
        };
        bytes.push((high << 4 | low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| AddressError::new(format!("{what} {encoded:?} is not UTF-8 once decoded")))
}

/// What may not stand in a URL as it is, as %XX.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    let mut out = String::new();
    for byte in text.bytes() {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
