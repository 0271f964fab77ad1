//! What a server takes while it does nothing: memory and processor time with 0, 64 and 1,000 sessions.

use super::servers::{Bench, Store};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a resting server is watched.
const WATCH: Duration = Duration::from_secs(20);

pub fn run(bench: &Bench) -> Result<(), String> {
    println!("\n{:<10} {:<8} {:>12} {:>14} {:>18}", "sessions", "server", "resident", "each session", "of a processor");
    for server in bench.servers(false) {
        let mut bare = 0;
        for sessions in [0u64, 64, 1000] {
            let running = bench.start(server, Store::Null)?;
            let mut load = None;
            if sessions > 0 {
                let watched = (WATCH + Duration::from_secs(10)).as_secs().to_string();
                let words =
                    ["bench", &running.url, "--idle", "--seconds", &watched, "--connections", &sessions.to_string()];
                load = Some(
                    Command::new(bench.lunette())
                        .args(words)
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .spawn()
                        .map_err(|error| error.to_string())?,
                );
                // All logins are over by then.
                std::thread::sleep(Duration::from_secs(5));
            }
            let before = processor_time(running.process());
            std::thread::sleep(WATCH);
            let share = (processor_time(running.process()) - before) as f64 / WATCH.as_nanos() as f64;
            let resident = resident(running.process());
            if sessions == 0 {
                bare = resident;
            }
            let each = resident
                .saturating_sub(bare)
                .checked_div(sessions)
                .map_or("".into(), |each| format!("{} KiB", each / 1024));
            println!(
                "{sessions:<10} {:<8} {:>8} KiB {each:>14} {:>16.3} %",
                server.name(),
                resident / 1024,
                share * 100.0
            );
            if let Some(mut load) = load {
                let _ = load.kill();
                let _ = load.wait();
            }
        }
    }
    Ok(())
}

fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn processor_time(process: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else { return 0 };
    let one = |path: std::path::PathBuf| -> Option<u64> {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(|task| one(task.path())).sum()
}
