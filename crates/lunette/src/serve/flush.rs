//! The last act: everything that was written reaches stable storage.

use crate::failure::Failure;
use block::{Operation, Request, RequestId};
use io::engine::{Choice, Engines};
use lun::LogicalUnit;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a remote disk may take.
const REMOTE: Duration = Duration::from_secs(10);

/// Flushes every unit. No worker runs any more.
pub fn all(units: &[Arc<LogicalUnit>]) -> Result<(), Failure> {
    let mut failed = None;
    for unit in units {
        if let Err(error) = one(unit) {
            let place = unit.backend().description().address;
            tracing::error!(%place, "cannot flush: {error}");
            failed.get_or_insert_with(|| {
                Failure::runtime(format!("{place}: {error}; what was written last may be lost with the power"))
            });
        }
    }
    failed.map_or(Ok(()), Err)
}

fn one(unit: &LogicalUnit) -> Result<(), String> {
    let engine = Engines::new(Choice::Inline).open().map_err(|error| error.to_string())?;
    let mut store = unit.backend().open(engine.engine()).map_err(|error| error.to_string())?;
    let (mut batch, mut done) = (vec![Request::over(RequestId(0), Operation::Flush, 0, 0)], Vec::new());
    store.submit(&mut batch, &mut done);
    // A disk here takes as long as it takes. One behind a network may be gone for minutes before its session gives up.
    let is_remote = unit.backend().description().kind == "iscsi";
    let until = is_remote.then(|| Instant::now() + REMOTE);
    while done.is_empty() {
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(format!("no answer within {} s", REMOTE.as_secs()));
        }
        engine.wait(Duration::from_millis(100));
        engine.collect();
        store.poll(&mut done);
    }
    done.remove(0).result.map(|_| ()).map_err(|error| error.to_string())
}
