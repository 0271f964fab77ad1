//! `cargo bench -p lunette-measure [CASE]`: the time of each inner part.

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in measure::cases() {
        let mut once = (case.prepare)();
        criterion.bench_function(case.name, |bencher| bencher.iter(&mut once));
    }
    criterion.final_summary();
}
