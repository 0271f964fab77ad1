//! Sessions and their connections: shown with all that was agreed, and dropped.

use super::json;
use super::problem::Problem;
use super::route::{Answer, Call, Reply};
use crate::configuration::finding::there_are;
use serde_json::{Value, json};
use target::Closed;

/// All sessions.
pub async fn list(call: Call) -> Answer {
    Ok(Reply::Json(all(&call).await))
}

/// One of them.
pub async fn show(call: Call) -> Answer {
    find(&call).await.map(Reply::Json)
}

/// Drops one.
pub async fn drop_session(call: Call) -> Answer {
    let session = find(&call).await?;
    let tsih = call.number(0, "session")?;
    if !call.administrator.door().drop_session(tsih).await {
        let what = format!("session {tsih} does not end: something of it still touches a disk, or it has just ended");
        return Err(Problem::new("failed", what, "look at it again later"));
    }
    let line = format!("session {tsih} of {} is dropped", text(&session, "initiator"));
    Ok(Reply::Json(json!({ "done": true, "line": line })))
}

/// The connections of all sessions.
pub async fn connections(call: Call) -> Answer {
    let sessions = all(&call).await;
    let all = sessions["sessions"].as_array().into_iter().flatten().flat_map(of_session);
    Ok(Reply::Json(json!({ "connections": all.collect::<Vec<_>>() })))
}

/// A connection.
pub async fn connection(call: Call) -> Answer {
    find_connection(&call).await.map(Reply::Json)
}

/// Drops one.
pub async fn drop_connection(call: Call) -> Answer {
    let connection = find_connection(&call).await?;
    let (tsih, cid) = (call.number(0, "session")?, call.number(1, "connection")?);
    let peer = text(&connection, "peer");
    let line = match call.administrator.door().close_connection(tsih, cid).await {
        Closed::Connection => format!("connection {cid} of session {tsih} from {peer} is closed"),
        Closed::Session => format!("session {tsih} has ended with connection {cid} from {peer}"),
        Closed::Stays => {
            let what = format!("the initiator does not let go of connection {cid}, and the session would end with it");
            return Err(Problem::new("in-use", what, "drop the session"));
        }
        Closed::Absent => return Err(Problem::not_found(format!("connection {cid} has just ended"), "")),
    };
    Ok(Reply::Json(json!({ "done": true, "line": line })))
}

async fn all(call: &Call) -> Value {
    json::sessions(&call.administrator.door().workers().await)
}

async fn find(call: &Call) -> Result<Value, Problem> {
    let tsih = call.number(0, "session")?;
    let all = all(call).await;
    let mut sessions = all["sessions"].as_array().into_iter().flatten();
    let found = sessions.clone().find(|session| session["tsih"] == tsih);
    found.cloned().ok_or_else(|| {
        let help = there_are(sessions.by_ref().map(|session| session["tsih"].clone()));
        Problem::not_found(format!("there is no session {tsih}"), help)
    })
}

async fn find_connection(call: &Call) -> Result<Value, Problem> {
    let session = find(call).await?;
    let cid = call.number(1, "connection")?;
    let all = of_session(&session);
    let found = all.iter().find(|connection| connection["cid"] == cid).cloned();
    found.ok_or_else(|| {
        let help = there_are(all.iter().map(|connection| connection["cid"].clone()));
        Problem::not_found(format!("session {} has no connection {cid}", session["tsih"]), help)
    })
}

fn of_session(session: &Value) -> Vec<Value> {
    let connections = session["connections"].as_array().cloned().unwrap_or_default();
    let whose = |mut connection: Value| {
        for key in ["tsih", "initiator", "target"] {
            connection[key] = session[key].clone();
        }
        connection
    };
    connections.into_iter().map(whose).collect()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("-")
}
