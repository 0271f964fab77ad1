//! Who watches the connections of a session.

use super::Driver;
use crate::trace::{LinkWatcher, TracedConnection, Tracer};
use io::link::tap::Digests;
use std::sync::Arc;

impl Driver {
    /// Has all that watch told of the connections that are open, each once. Asked when one has come.
    pub(super) fn watch_by_all(&mut self) {
        for tracer in self.traces.all() {
            self.watch(&tracer);
        }
    }

    /// Has a tracer told of the open connections, where it asks for them; of how many.
    pub fn watch(&mut self, tracer: &Arc<Tracer>) -> usize {
        let mut watched = 0;
        for line in &mut self.lines {
            let parameters = self.session.connection_parameters(line.c);
            let digests = parameters.map_or(Digests::default(), |agreed| Digests {
                header: agreed.header_digest,
                data: agreed.data_digest,
            });
            let connection = TracedConnection {
                number: 0,
                login: false,
                initiator: Some(self.initiator.clone()),
                target: Some(self.target.name.clone()),
                session: Some(self.identity.tsih()),
                cid: Some(line.cid),
                peer: line.peer,
                local: line.local,
                digests,
            };
            if let Some(watcher) = LinkWatcher::new(tracer, connection) {
                line.link.watch(tracer.number(), digests, Box::new(watcher));
                watched += 1;
            }
        }
        watched
    }
}
