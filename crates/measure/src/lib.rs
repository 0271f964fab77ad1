//! The inner parts of the target as cases that can be run one at a time, each many times.
//!
//! One list for two judges: `cargo bench -p lunette-measure` times them (Criterion), and the suite `counts`
//! of `cargo xtask test` counts their instructions under callgrind, which a busy machine does not change.
#![forbid(unsafe_code)]

mod digest;
mod dispatch;
mod login;
mod sense;
mod session;
mod wire;

/// A case: what one call of what `prepare` returns does is measured, `prepare` itself is not.
pub struct Case {
    /// Its name, by which the table of counts knows it.
    pub name: &'static str,
    /// Makes what it needs.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// All cases, in the order of the table.
pub fn cases() -> Vec<Case> {
    let parts: [&[Case]; 6] = [wire::CASES, session::CASES, login::CASES, digest::CASES, dispatch::CASES, sense::CASES];
    parts.into_iter().flatten().map(|case| Case { name: case.name, prepare: case.prepare }).collect()
}

#[cfg(test)]
mod tests {
    /// Each case checks its own answers, so that nobody measures a refusal.
    #[test]
    fn every_case_runs_and_has_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for case in super::cases() {
            assert!(names.insert(case.name), "{} twice", case.name);
            let mut once = (case.prepare)();
            (0..300).for_each(|_| once());
        }
    }
}
