//! The document that is served, whole: shown without its secrets, replaced, read again from its file.

use super::change::told;
use super::problem::Problem;
use super::route::{Answer, Call, Reply};
use crate::configuration::edit;
use crate::configuration::{self, Found};
use serde_json::json;

/// The document.
pub async fn show(call: Call) -> Answer {
    let document = call.administrator.document();
    let text = match call.flag("secrets") {
        true => document.text().to_owned(),
        false => edit::without_secrets(document.text())?,
    };
    // Names are looked up for it and files read, and others are waiting.
    let read = document.clone();
    let findings =
        tokio::task::spawn_blocking(move || configuration::read(&read.name(), read.text(), read.path()).findings);
    let findings = findings.await.map_err(|_| Problem::new("failed", "a defect kept it from being read", ""))?;
    Ok(Reply::Json(json!({
        "path": document.path().map(|path| path.display().to_string()),
        "text": text,
        "warnings": findings.iter().map(Found::json).collect::<Vec<_>>(),
    })))
}

/// Serves another one.
pub async fn replace(call: Call) -> Answer {
    let text = call.body["text"].as_str().unwrap_or_default();
    let text = match edit::with_secrets_of(text, call.administrator.document().text()) {
        Ok(text) => text,
        // What is no TOML is told of by the reader, with its place.
        Err(wrong) if wrong.kind == edit::Kind::Document => text.to_owned(),
        Err(wrong) => return Err(Problem::from(wrong)),
    };
    told(call.administrator.replace(text, call.how()).await)
}

/// Serves what the file says now.
pub async fn reload(call: Call) -> Answer {
    told(call.administrator.reread(call.how()).await)
}
