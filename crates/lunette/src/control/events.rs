//! What happens, for whoever reads it over the API.
//!
//! A line of the log that has a field `event` is an event of that kind: it is told once, and the log, the journal and
//! this stream have it. Readers are behind by so many events at most; who is slower loses the oldest and is told how
//! many. Nobody waits for a reader.

use serde_json::{Map, Value, json};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;
use tokio::sync::broadcast::{self, Receiver};
use tracing::field::{Field, Visit};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Events that a reader may be behind.
pub const BEHIND: usize = 1024;
/// Letters of a fact that are told.
const LETTERS: usize = 1024;
/// The field that makes a line of the log an event.
const FIELD: &str = "event";

struct Hub {
    started: SystemTime,
    number: AtomicU64,
    sender: broadcast::Sender<Arc<Value>>,
}

static HUB: LazyLock<Hub> = LazyLock::new(|| Hub {
    started: SystemTime::now(),
    number: AtomicU64::new(0),
    sender: broadcast::channel(BEHIND).0,
});

/// When the process began to tell events.
pub fn started() -> SystemTime {
    HUB.started
}

/// Who reads them now.
pub fn readers() -> usize {
    HUB.sender.receiver_count()
}

/// Events from now on.
pub fn subscribe() -> Receiver<Arc<Value>> {
    HUB.sender.subscribe()
}

/// Tells an event.
pub fn publish(when: SystemTime, kind: &str, level: &str, message: &str, fields: Map<String, Value>) {
    let number = HUB.number.fetch_add(1, Ordering::Relaxed) + 1;
    if HUB.sender.receiver_count() == 0 {
        return;
    }
    let event = json!({
        "number": number,
        "time": super::json::timestamp(when),
        "kind": kind,
        "level": level,
        "message": message,
        "fields": fields,
    });
    // Nobody has to read.
    let _ = HUB.sender.send(Arc::new(event));
}

/// Takes events out of the log, whatever of it is written.
pub struct Events;

impl Events {
    /// Whether lines of this kind are events: a question to what is known before the program runs, so that all others
    /// cost nothing.
    pub fn concerns(metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.fields().field(FIELD).is_some()
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if !Events::concerns(event.metadata()) {
            return;
        }
        let mut facts = Facts::default();
        event.record(&mut facts);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        publish(SystemTime::now(), &facts.kind, &level, &facts.message, facts.fields);
    }
}

/// The fields of a line.
#[derive(Default)]
struct Facts {
    kind: String,
    message: String,
    fields: Map<String, Value>,
}

impl Facts {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            (FIELD, Value::String(kind)) => self.kind = kind,
            ("message", Value::String(message)) => self.message = message,
            // How many lines were left out is no fact of this one, unless there were some.
            ("not_shown", value) if value == 0 => {}
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Facts {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.chars().take(LETTERS).collect::<String>().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        self.put(field, text.chars().take(LETTERS).collect::<String>().into());
    }
}

/// An event as a server sends it.
pub fn frame(event: &Value) -> String {
    let kind: String = event["kind"].as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    format!("id: {}\nevent: {kind}\ndata: {event}\n\n", event["number"])
}

/// What a reader is told who was too slow.
pub fn lost(count: u64) -> String {
    let number = HUB.number.load(Ordering::Relaxed);
    frame(&json!({
        "number": number,
        "time": super::json::timestamp(SystemTime::now()),
        "kind": "lost",
        "level": "warn",
        "message": format!("{count} events are lost: they were read too slowly"),
        "fields": { "count": count },
    }))
}

/// What keeps a connection that has nothing to say.
pub const BREATH: &str = ": still here\n\n";

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn a_line_of_the_log_with_the_field_is_an_event_and_no_other_is() {
        let mut events = subscribe();
        let subscriber = tracing_subscriber::registry().with(Events);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("nobody's business");
            tracing::warn!(event = "test", peer = %"192.0.2.1:7", lun = 3, not_shown = 0, "this {} told", "is");
        });
        let told = std::iter::from_fn(|| events.try_recv().ok()).find(|event| event["kind"] == "test").unwrap();
        assert_eq!((&told["message"], &told["level"]), (&"this is told".into(), &"warn".into()));
        assert_eq!(told["fields"], json!({ "peer": "192.0.2.1:7", "lun": 3 }));
        assert_eq!(super::super::shapes::find("Event").unwrap().check(&told), Ok(()));
        let frame = frame(&told);
        assert!(frame.contains("\nevent: test\ndata: {") && frame.ends_with("}\n\n"), "{frame}");
    }
}
