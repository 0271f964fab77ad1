//! The API: every route answers as its document says, whatever it is asked.

use super::rig::{HOME, ask, daemon, raw};
use serde_json::{Value, json};
use sim::raw::Login;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A path with its names filled in by what is there.
fn filled(path: &str) -> String {
    path.replace("{target}", HOME)
        .replace("{lun}", "1")
        .replace("{rule}", "1")
        .replace("{account}", "alice")
        .replace("{group}", "1")
}

/// Whether a value has the shape of a schema of the document: a small reading of JSON Schema, made apart from what
/// makes the document.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{value}: {why} of {schema}"));
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.trim_start_matches("#/components/schemas/");
        return fits(document, &document["components"]["schemas"][name], value);
    }
    if let Some(all) = schema["anyOf"].as_array() {
        return match all.iter().any(|one| fits(document, one, value).is_ok()) {
            true => Ok(()),
            false => wrong("is none"),
        };
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !(kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number")) {
        return wrong("is not of the type");
    }
    if let (Some(all), Value::String(_)) = (schema["enum"].as_array(), value)
        && !all.contains(value)
    {
        return wrong("is no word");
    }
    if let (Some(list), items @ Value::Object(_)) = (value.as_array(), &schema["items"]) {
        list.iter().try_for_each(|one| fits(document, items, one))?;
    }
    let Some(object) = value.as_object() else { return Ok(()) };
    for needed in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(needed) {
            return wrong(&format!("has no {needed}"));
        }
    }
    for (key, inner) in object {
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return wrong(&format!("has a key {key}")),
            (Value::Null, Value::Object(_)) => fits(document, &schema["additionalProperties"], inner)?,
            (Value::Null, _) => {}
            (known, _) => fits(document, known, inner)?,
        }
    }
    Ok(())
}

/// That an answer is as the document says.
fn as_described(document: &Value, method: &str, template: &str, status: u16, answer: &Value) {
    let mut described = &document["paths"][template][method]["responses"][status.to_string()];
    if let Some(reference) = described["$ref"].as_str() {
        described = &document["components"]["responses"][reference.trim_start_matches("#/components/responses/")];
    }
    assert!(described.is_object(), "{method} {template}: {status} is not described: {answer}");
    let schema = &described["content"]["application/json"]["schema"];
    fits(document, schema, answer).unwrap_or_else(|why| panic!("{method} {template}: {status}: {why}"));
}

#[test]
fn every_route_answers_as_its_document_says() {
    let daemon = daemon();
    let mut client = daemon.connect();
    client.login(&Login::normal(HOME));
    let (status, document) = ask(&daemon, "GET", "/v1/openapi.json", None);
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    let (_, sessions) = ask(&daemon, "GET", "/v1/sessions", None);
    let session = sessions["sessions"][0]["tsih"].to_string();
    let connection = sessions["sessions"][0]["connections"][0]["cid"].to_string();
    let (_, portals) = ask(&daemon, "GET", "/v1/portals", None);
    let portal = portals["portals"][0]["listen"].as_str().expect("a portal").to_owned();
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 25);
    let mut asked = 0;
    for (template, operations) in paths {
        let path = filled(template);
        for method in operations.as_object().expect("operations").keys() {
            if ["/v1/events", "/v1/openapi.json", "/v1/trace"].contains(&template.as_str()) {
                continue;
            }
            asked += 1;
            match method.as_str() {
                "get" => {
                    let path = path.replace("{session}", &session).replace("{portal}", &portal);
                    let path = path.replace("{connection}", &connection);
                    let (status, answer) = ask(&daemon, "GET", &path, None);
                    assert_eq!(status, 200, "{path}: {answer}");
                    as_described(&document, "get", template, status, &answer);
                }
                // What nobody meant is refused, and nothing happens.
                _ => {
                    let nonsense = json!({ "no such key": 1 });
                    let path = path.replace(HOME, "iqn.2026-01.org.example:none").replace("alice", "nobody");
                    let path = path.replace("{session}", "65535").replace("{connection}", "7");
                    let path = path.replace("{portal}", "192.0.2.99").replace("/groups/1", "/groups/77");
                    let upper = method.to_uppercase();
                    let (status, answer) = ask(&daemon, &upper, &format!("{path}?dry-run=true"), Some(&nonsense));
                    let reloads = template.ends_with("reload");
                    assert!(status >= 400 || reloads, "{method} {path}: {answer}");
                    as_described(&document, method, template, status, &answer);
                }
            }
        }
    }
    assert!(asked > 40, "{asked}");
    let (_, after) = ask(&daemon, "GET", "/v1/sessions", None);
    assert_eq!(after["sessions"].as_array().map(Vec::len), Some(1), "nothing has happened");
}

#[test]
fn what_is_not_understood_has_the_one_form_of_errors() {
    let daemon = daemon();
    let (_, document) = ask(&daemon, "GET", "/v1/openapi.json", None);
    let problem = &document["components"]["schemas"]["Problem"];
    let check = |(status, answer): (u16, Value), wanted: u16, code: &str| {
        assert_eq!((status, &answer["code"]), (wanted, &json!(code)), "{answer}");
        fits(&document, problem, &answer).unwrap();
        answer
    };
    check(ask(&daemon, "GET", "/v1/none", None), 404, "not-found");
    check(ask(&daemon, "DELETE", "/v1/status", None), 405, "method");
    check(ask(&daemon, "GET", "/v1/status?dry-run=true", None), 400, "bad-request");
    let told =
        check(ask(&daemon, "POST", "/v1/targets?dry-rn=true", Some(&json!({ "name": "x" }))), 400, "bad-request");
    assert_eq!(told["help"], "did you mean `dry-run`?");
    let told = check(ask(&daemon, "POST", "/v1/targets", Some(&json!({ "nme": "x" }))), 400, "bad-request");
    assert_eq!(told["message"], "there is no key `nme`");
    let told = check(ask(&daemon, "GET", "/v1/targets/iqn.2026-01.org.example:hme", None), 404, "not-found");
    assert_eq!(told["help"], format!("did you mean `{HOME}`?"));
    let told = check(ask(&daemon, "POST", "/v1/targets", Some(&json!({ "name": "no name" }))), 422, "invalid");
    let findings = told["findings"].as_array().unwrap();
    assert!(findings.iter().any(|one| one["severity"] == "error" && one["column"] == 8), "{told}");
    check(ask(&daemon, "POST", "/v1/targets", Some(&json!({ "name": HOME }))), 409, "exists");
    let request = "POST /v1/targets HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(raw(&daemon, request).0, 415);
    let request = "POST /v1/targets HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(raw(&daemon, request).0, 400);
    let long = format!(
        "POST /v1/targets HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1048600\r\n\r\n{}",
        "x".repeat(1_048_600)
    );
    assert_eq!(raw(&daemon, &long).0, 413);
}

#[test]
fn chp_18_no_answer_has_a_secret_and_a_document_that_was_shown_can_be_given_back() {
    let daemon = daemon();
    for path in ["/v1/configuration", "/v1/accounts", "/v1/accounts/alice", "/v1/targets"] {
        let (status, answer) = ask(&daemon, "GET", path, None);
        assert!(status == 200 && !answer.to_string().contains("alice-secret"), "{answer}");
    }
    let (_, shown) = ask(&daemon, "GET", "/v1/configuration", None);
    let text = shown["text"].as_str().unwrap();
    assert!(text.contains("secret = \"(kept)\"") && text.contains("# Whoever makes the copies."), "{text}");
    let text = text.replace("alias = \"the house\"", "alias = \"our house\"");
    let (status, plan) = ask(&daemon, "PUT", "/v1/configuration", Some(&json!({ "text": text })));
    assert_eq!((status, &plan["done"]), (200, &json!(true)), "{plan}");
    let (_, target) = ask(&daemon, "GET", &format!("/v1/targets/{HOME}"), None);
    assert_eq!(target["alias"], "our house");
    let path = shown["path"].as_str().unwrap();
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(kept.contains("alice-secret-12") && kept.contains("our house"), "{kept}");
    let (status, told) = ask(&daemon, "PUT", "/v1/configuration", Some(&json!({ "text": "[[targt]]\n" })));
    assert_eq!((status, &told["code"], &told["findings"][0]["line"]), (422, &json!("invalid"), &json!(1)), "{told}");
}

#[test]
fn several_changes_are_one_and_all_of_them_or_none_is_made() {
    let daemon = daemon();
    let new = "iqn.2026-01.org.example:new";
    let changes = |last: Value| {
        json!({ "changes": [
            { "do": "add", "what": "target", "name": new },
            { "do": "add", "what": "lun", "target": new, "values": { "store": "ram:1M" } },
            { "do": "add", "what": "rule", "target": new, "values": { "initiators": "any" } },
            last,
        ] })
    };
    let wrong = changes(json!({ "do": "remove", "what": "account", "name": "nobody" }));
    let (status, told) = ask(&daemon, "POST", "/v1/changes", Some(&wrong));
    assert_eq!((status, &told["code"]), (404, &json!("not-found")), "{told}");
    assert_eq!(ask(&daemon, "GET", &format!("/v1/targets/{new}"), None).0, 404);
    let right =
        changes(json!({ "do": "set", "what": "lun", "target": HOME, "name": 2, "values": { "read_only": true } }));
    let (status, plan) = ask(&daemon, "POST", "/v1/changes", Some(&right));
    assert_eq!(status, 200, "{plan}");
    let (_, lun) = ask(&daemon, "GET", &format!("/v1/targets/{HOME}/luns/2"), None);
    assert_eq!((&lun["read_only"], &lun["writable"]), (&json!(true), &json!(false)));
    daemon.connect().login(&Login::normal(new));
}

/// Reads events until one of this kind has come.
fn next(reader: &mut impl BufRead, kind: &str) -> Value {
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("an event in time") > 0, "the stream has ended");
        if let Some(data) = line.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(data).expect("JSON");
            if event["kind"] == kind {
                return event;
            }
        }
    }
}

#[test]
fn whoever_reads_the_events_hears_of_logins_refusals_and_changes() {
    let daemon = daemon();
    let mut stream = UnixStream::connect(daemon.control()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains("still here") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    let mut client = daemon.connect();
    client.login(&Login::normal(HOME));
    let login = next(&mut reader, "login");
    assert_eq!(login["fields"]["target"], HOME);
    assert!(daemon.connect().try_login(&Login::normal("iqn.2026-01.org.example:none")).is_err());
    assert_eq!(next(&mut reader, "refused")["level"], "warn");
    let rule = json!({ "alias": "another" });
    assert_eq!(ask(&daemon, "PATCH", &format!("/v1/targets/{HOME}"), Some(&rule)).0, 200);
    let change = next(&mut reader, "configuration");
    assert!(change["message"].as_str().is_some_and(|line| !line.is_empty()), "{change}");
    let offline = json!({ "online": false });
    assert_eq!(ask(&daemon, "PATCH", &format!("/v1/targets/{HOME}/luns/2?force=true"), Some(&offline)).0, 200);
    let told = next(&mut reader, "offline");
    assert_eq!((&told["fields"]["target"], &told["fields"]["lun"]), (&json!(HOME), &json!("2")));
    let session = login["fields"]["tsih"].to_string();
    assert_eq!(ask(&daemon, "DELETE", &format!("/v1/sessions/{session}"), None).0, 200);
    assert_eq!(next(&mut reader, "logout")["fields"]["tsih"].to_string(), session);
}

#[test]
fn readers_of_events_are_bounded_and_leave_room_for_others() {
    let daemon = daemon();
    let open = || {
        let mut stream = UnixStream::connect(daemon.control()).unwrap();
        write!(stream, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut line = String::new();
        let mut reader = BufReader::new(stream);
        reader.read_line(&mut line).unwrap();
        (line, reader)
    };
    let readers: Vec<_> = (0..8).map(|_| open()).collect();
    assert!(readers.iter().all(|(line, _)| line.contains("200")));
    assert!(open().0.contains("503"));
    assert_eq!(ask(&daemon, "GET", "/v1/status", None).1["events_readers"], 8);
    drop(readers);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !open().0.contains("200") {
        assert!(std::time::Instant::now() < end, "whoever has gone holds no place");
        std::thread::sleep(Duration::from_millis(50));
    }
}
