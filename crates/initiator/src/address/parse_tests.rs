//! What is read of an address, and what is said of one that is wrong.

use super::*;

fn read(text: &str) -> Address {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_url_names_a_portal_a_target_or_a_unit() {
    let unit = read("iscsi://192.0.2.1/iqn.2026-11.com.example:a/7");
    assert_eq!((unit.host.as_str(), unit.port, unit.lun), ("192.0.2.1", 3260, Some(7)));
    assert_eq!(unit.target.as_deref(), Some("iqn.2026-11.com.example:a"));
    let target = read("iscsi://store.example:3261/iqn.2026-11.com.example:a");
    assert_eq!((target.port, target.lun), (3261, None));
    for portal in ["iscsi://store.example", "iscsi://store.example/"] {
        assert_eq!(read(portal).target, None);
    }
    assert_eq!(read("iscsi://[fe80::1%25eth0]:9/t/0").portal(), "[fe80::1%eth0]:9");
    assert_eq!(read("iscsi://[2001:db8::7]/t/0").to_string(), "iscsi://[2001:db8::7]/t/0");
}

#[test]
fn only_the_targets_name_is_percent_decoded() {
    let address = read("iscsi://al%se%41cret%2f@h/iqn.2026-11.com.example%3Aa%2fb/0");
    assert_eq!(address.target.as_deref(), Some("iqn.2026-11.com.example:a/b"));
    assert_eq!(address.secret, Some(Secret::weak("se%41cret%2f")));
    assert_eq!(address.to_string(), "iscsi://al@h/iqn.2026-11.com.example:a%2Fb/0");
    assert_eq!(read(&address.to_string()).target, address.target);
}

#[test]
fn a_secret_stands_behind_a_percent_sign_or_a_colon_and_is_never_shown() {
    for (url, user, secret) in [
        ("iscsi://alice%alice-secret-12@h", "alice", "alice-secret-12"),
        ("iscsi://alice:alice-secret-12@h", "alice", "alice-secret-12"),
        ("iscsi://a:b%c:d@h", "a:b", "c:d"),
        ("iscsi://alice%s/e@c@h/t/0", "alice", "s/e@c"),
    ] {
        let address = read(url);
        assert_eq!(address.user.as_deref(), Some(user), "{url}");
        assert!(address.secret == Some(Secret::weak(secret)), "{url}");
        for shown in [address.to_string(), format!("{address:?}"), format!("{:?}", address.account())] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    let mutual = read("iscsi://a%secret-of-alice@h/t/0?target_user=t&target_password=secret-of-target");
    assert!(mutual.target_account().is_some() && !format!("{mutual} {mutual:?}").contains("secret-of"));
}

#[test]
fn every_argument_is_taken_and_shown_again() {
    let text = "iscsi://h/t/0?secret_file=%2Fetc%2Fa%20b&target_user=t&target_secret_file=%2Fetc%2Fs&auth=sha3-256&\
                header_digest=crc32c&data_digest=none&initiator_name=iqn.2026-11.com.example:me&force_usn=A1&timeout=9";
    let address = read(text);
    assert_eq!(address.algorithm, Some(Algorithm::Sha3_256));
    assert_eq!(address.header_digest, Some(DigestOffer::Required));
    assert_eq!(address.data_digest, Some(DigestOffer::None));
    assert_eq!(address.secret_file, Some("/etc/a b".into()));
    assert_eq!((address.serial_number.as_deref(), address.timeout), (Some("A1"), Some(9)));
    assert_eq!(address.to_string(), text);
    for (word, algorithm) in [("md5", Algorithm::Md5), ("sha1", Algorithm::Sha1), ("sha-256", Algorithm::Sha256)] {
        assert_eq!(read(&format!("iscsi://h/t/0?auth={word}")).algorithm, Some(algorithm));
    }
    assert_eq!(read("iscsi://h/t/0?header_digest=none-crc32c").header_digest, Some(DigestOffer::Allowed));
    assert_eq!(read("iscsi://h/t/0?LIBISCSI_RDMA_ACK_TIMEOUT=3"), read("iscsi://h/t/0"));
}

#[test]
fn qemus_list_of_options_is_an_address_too() {
    let address = read(
        "driver=iscsi,transport=tcp,portal=[::1]:3261,target=iqn.2026-11.com.example:a,lun=3,user=alice,\
         password=a,,secret,header-digest=crc32c-none,initiator-name=iqn.2026-11.com.example:me,timeout=5",
    );
    assert_eq!((address.portal(), address.lun, address.timeout), ("[::1]:3261".to_owned(), Some(3), Some(5)));
    assert!(address.secret == Some(Secret::weak("a,secret")));
    assert_eq!(address.header_digest, Some(DigestOffer::Preferred));
}

#[test]
fn what_is_wrong_is_said_in_one_line_without_the_secret() {
    for (text, says) in [
        ("", "begins with iscsi://"),
        ("disk.img", "begins with iscsi://"),
        ("nbd://h/t", "nbd:// is no address"),
        ("iser://h/t/0", "iSER"),
        ("iscsi://h/t/0?iser", "iSER"),
        ("iscsi://", "the host is missing"),
        ("iscsi://:3260/t/0", "the host is missing"),
        ("iscsi://u%hush-hush@/t/0", "the host is missing"),
        ("iscsi://h:0/t/0", "port \"0\""),
        ("iscsi://h:99999/t", "port \"99999\""),
        ("iscsi://::1/t/0", "in brackets"),
        ("iscsi://[::1/t/0", "not closed"),
        ("iscsi://[::1]x/t/0", "comes :PORT"),
        ("iscsi://[hush]/t/0", "no IPv6 address"),
        ("iscsi://a b/t/0", "has no ' '"),
        ("iscsi://h//0", "no target's name"),
        ("iscsi://h/t/-1", "LUN \"-1\""),
        ("iscsi://h/t/16384", "from 0 to 16383"),
        ("iscsi://h/t/1/2", "LUN \"1/2\""),
        ("iscsi://h/t%2/0", "two hexadecimal digits"),
        ("iscsi://h/t%zz/0", "two hexadecimal digits"),
        ("iscsi://h/t%ff/0", "not UTF-8"),
        ("iscsi://h/a%20b/0", "has no ' '"),
        ("iscsi://@h/t/0", "user before @ is empty"),
        ("iscsi://u%@h/t/0", "secret before @ is empty"),
        ("iscsi://u%hush-hush@h/t/0?wrong=1", "no argument wrong"),
        ("iscsi://u%hush-hush@h/t/0?auth=rot13", "auth=rot13"),
        ("iscsi://h/t/0?header_digest=maybe", "crc32c or none"),
        ("iscsi://h/t/0?timeout=never", "seconds"),
        ("iscsi://h/t\n/0", "control characters"),
        ("driver=iscsi,target=t", "portal=HOST"),
        ("driver=iscsi,portal=h,password-secret=s", "secret_file"),
        ("driver=nbd,portal=h", "another kind"),
    ] {
        let error = text.parse::<Address>().expect_err(text).to_string();
        assert!(error.contains(says) && !error.contains('\n') && !error.contains("hush-hush"), "{text}: {error}");
    }
    let long = format!("iscsi://u%{}@h/t/0", "x".repeat(256));
    assert!(long.parse::<Address>().unwrap_err().to_string().contains("256 bytes"));
    assert!("iscsi://h/".repeat(1000).parse::<Address>().is_err());
}

#[test]
fn secrets_come_from_the_url_then_a_file_then_the_environment() {
    use std::os::unix::fs::PermissionsExt;
    let none = |_: &str| None;
    let libiscsi = |name: &str| match name {
        "LIBISCSI_CHAP_USERNAME" => Some("env".to_owned()),
        "LIBISCSI_CHAP_PASSWORD" => Some("secret-of-env".to_owned()),
        "LIBISCSI_CHAP_TARGET_USERNAME" => Some("t".to_owned()),
        "LIBISCSI_CHAP_TARGET_PASSWORD" => Some("secret-of-t".to_owned()),
        _ => None,
    };
    let address = read("iscsi://h/t/0").resolve_with(libiscsi).unwrap();
    let account = address.account().unwrap();
    assert!(account.user == "env" && account.secret == Secret::weak("secret-of-env"));
    assert!(address.target_account().unwrap().secret == Secret::weak("secret-of-t"));
    let own = read("iscsi://alice%own@h/t/0").resolve_with(libiscsi).unwrap();
    assert!(own.account().unwrap().secret == Secret::weak("own"));
    let ours = |name: &str| (name == "LUNETTE_CHAP_SECRET").then(|| "ours".to_owned()).or_else(|| libiscsi(name));
    assert!(read("iscsi://alice@h").resolve_with(ours).unwrap().secret == Some(Secret::weak("ours")));
    assert_eq!(read("iscsi://h").resolve_with(none).unwrap().account(), None);
    let error = read("iscsi://alice@h").resolve_with(none).unwrap_err().to_string();
    assert!(error.contains("no secret of alice") && error.contains("LUNETTE_CHAP_SECRET"), "{error}");

    let path = std::env::temp_dir().join(format!("lunette-secret-{}", std::process::id()));
    std::fs::write(&path, "of the file\nmore\n").unwrap();
    let url = format!("iscsi://alice@h?secret_file={}", path.display());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = read(&url).resolve_with(none).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(read(&url).resolve_with(libiscsi).unwrap().secret == Some(Secret::weak("of the file")));
    std::fs::write(&path, "\n").unwrap();
    assert!(read(&url).resolve_with(none).unwrap_err().to_string().contains("is empty"));
    std::fs::remove_file(&path).unwrap();
    assert!(read(&url).resolve_with(none).unwrap_err().to_string().contains("has to be the secret"));
}
