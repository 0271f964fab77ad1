//! Screens of a made-up daemon, compared with files. `LUNETTE_GOLDEN=write` writes them anew; whoever does so reads the
//! difference.

use super::app::{App, Press, View};
use super::look::Look;
use super::sample::{Bound, Connection, Daemon, Door, Lun, Refusal, Sample, Session};
use super::screen;
use lun::statistics::{BUCKETS, CommandKind, Counted, Latencies, bucket};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::path::Path;
use std::time::Duration;

const LOOK: Look = Look { colour: true, unicode: true };

/// So many commands of a kind, each of this many bytes, with these latencies in microseconds in turn.
fn done(counted: &mut Counted, kind: CommandKind, commands: u64, bytes: u64, microseconds: &[u64]) {
    let mut buckets = vec![0; BUCKETS];
    let mut time = 0;
    for (at, latency) in microseconds.iter().cycle().take(commands as usize).enumerate() {
        let nanoseconds = latency * 1000 + at as u64 % 7;
        buckets[bucket(nanoseconds)] += 1;
        time += nanoseconds;
    }
    let mut one = Counted::default();
    let of_kind = &mut one.kinds[kind as usize];
    (of_kind.commands, of_kind.bytes) = (commands, commands * bytes);
    (of_kind.time, of_kind.latencies) = (Duration::from_nanos(time), Latencies::from(buckets));
    counted.add(&one);
}

/// A daemon that has run for so many seconds.
fn sample(second: u64) -> Sample {
    let lun = |target: &str, number: u16, reads: u64, writes: u64| {
        let mut counted = Counted::default();
        done(&mut counted, CommandKind::Read, reads * second, 4096, &[80, 90, 120, 300]);
        done(&mut counted, CommandKind::Write, writes * second, 65_536, &[400, 900, 2500, 15_000]);
        done(&mut counted, CommandKind::Flush, second, 0, &[5000]);
        Lun {
            target: format!("iqn.2026-01.org.example:{target}"),
            number,
            place: format!("/srv/{target}-{number}.img"),
            bytes: Some(u64::from(number) << 34),
            state: "online".into(),
            writable: true,
            counted,
        }
    };
    let mut luns = vec![lun("disks", 1, 4000, 150), lun("disks", 2, 10, 0), lun("archive", 1, 0, 9)];
    luns[1].state = "offline".into();
    luns[2].writable = false;
    luns[1].counted.errors[3] = second * 2;
    let session = |number: u16, initiator: &str, target: &str, luns: Vec<(u16, Counted)>| {
        let mut counted = Counted { in_flight: 3, ..Counted::default() };
        luns.iter().for_each(|(_, lun)| counted.add(lun));
        Session {
            number,
            initiator: format!("iqn.2026-01.org.example:{initiator}"),
            alias: Some(format!("{initiator}.example.org")),
            target: format!("iqn.2026-01.org.example:{target}"),
            since: "2026-11-21T09:00:00Z".into(),
            parameters: [("MaxBurstLength", "262144"), ("FirstBurstLength", "65536"), ("InitialR2T", "No")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            connections: vec![Connection {
                cid: 0,
                peer: format!("192.0.2.{number}:40000"),
                local: "192.0.2.99:3260".into(),
                since: "2026-11-21T09:00:00Z".into(),
                received_bytes: 1 << 30,
                sent_bytes: 5 << 20,
                digests: "none".into(),
            }],
            counted,
            luns,
        }
    };
    let sessions = vec![
        session(3, "web", "disks", vec![(1, luns[0].counted.clone()), (2, luns[1].counted.clone())]),
        session(4, "backup", "archive", vec![(1, luns[2].counted.clone())]),
    ];
    Sample {
        time_us: 1_763_700_000_000_000 + second * 1_000_000,
        daemon: Daemon {
            version: "0.1.0".into(),
            process: 4711,
            since: "2026-11-20T08:00:00Z".into(),
            silent_workers: Vec::new(),
        },
        luns,
        sessions,
        door: Door {
            succeeded: 12,
            failed: vec![("access".into(), 2), ("time".into(), 0)],
            at_the_door: 1,
            bounds: vec![
                Bound {
                    name: "logins".into(),
                    setting: "1024".into(),
                    struck: 7,
                    what: "connections in their login".into(),
                },
                Bound { name: "sessions".into(), setting: "4096".into(), struck: 0, what: "sessions".into() },
            ],
            refusals: vec![Refusal {
                time: "2026-11-21T10:00:00Z".into(),
                peer: "198.51.100.7:5555".into(),
                who: "iqn.2026-01.org.example:stranger for iqn.2026-01.org.example:disks".into(),
                cause: "access".into(),
                why: "none of the target's 2 rules fits".into(),
            }],
        },
    }
}

/// One that has looked a few times.
fn app(view: View) -> App {
    let mut app = App::new(view, Duration::from_secs(1));
    for second in 1..6 {
        app.take(Ok(sample(second)));
    }
    app
}

fn drawn(app: &mut App, width: u16, height: u16, look: Look) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen::draw(frame, app, look)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
    (0..height).map(|y| row(y) + "\n").collect()
}

#[track_caller]
fn compare(name: &str, seen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/screens").join(format!("{name}.txt"));
    if std::env::var("LUNETTE_GOLDEN").is_ok_and(|word| word == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(path, seen).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, seen, "{}: LUNETTE_GOLDEN=write writes it anew", path.display());
}

#[test]
fn the_tables_look_as_they_did() {
    for (name, view) in
        [("luns", View::Luns), ("sessions", View::Sessions), ("targets", View::Targets), ("door", View::Door)]
    {
        compare(name, &drawn(&mut app(view), 132, 14, LOOK));
    }
}

#[test]
fn the_close_looks_look_as_they_did() {
    for (name, view) in [("lun", View::Luns), ("session", View::Sessions), ("target", View::Targets)] {
        let mut app = app(view);
        app.press(Press::Enter);
        compare(name, &drawn(&mut app, 100, 48, LOOK));
        app.press(Press::Escape);
        assert!(drawn(&mut app, 100, 48, LOOK).contains("Enter look closely"), "Esc goes back");
    }
    let mut app = app(View::Luns);
    app.press(Press::Letter('?'));
    compare("keys", &drawn(&mut app, 100, 26, LOOK));
}

#[test]
fn a_terminal_without_unicode_and_colours_and_a_small_one_show_what_they_can() {
    let plain = Look { colour: false, unicode: false };
    let mut app = app(View::Luns);
    let shown = drawn(&mut app, 80, 12, plain);
    compare("plain", &shown);
    assert!(shown.is_ascii(), "{shown}");
    app.press(Press::Enter);
    assert!(drawn(&mut app, 80, 40, plain).is_ascii());
    app.press(Press::Escape);
    compare("small", &drawn(&mut app, 40, 8, LOOK));
    for width in 1..60 {
        for height in 1..12 {
            for press in [Press::Enter, Press::Escape, Press::Letter('?'), Press::Escape] {
                drawn(&mut app, width, height, LOOK);
                app.press(press);
            }
        }
    }
}

#[test]
fn every_column_sorts_the_filter_leaves_out_and_the_selection_stays_with_its_row() {
    let mut app = app(View::Luns);
    let first = |app: &mut App| drawn(app, 132, 14, LOOK).lines().nth(4).unwrap().to_owned();
    assert!(first(&mut app).contains("disks"), "the busiest first");
    app.press(Press::Letter('r'));
    assert!(first(&mut app).contains("archive"));
    for column in super::columns::LUNS {
        app.sort_by(column.title).unwrap();
        drawn(&mut app, 132, 14, LOOK);
    }
    app.sort_by("err/s").unwrap();
    assert!(first(&mut app).contains("offline") && first(&mut app).contains("!2"), "{}", first(&mut app));
    // The selected row is the same one, wherever it has gone.
    app.press(Press::Down);
    let selected = |app: &App| {
        let subjects = app.subjects();
        subjects[app.selected(&subjects)].clone()
    };
    let before = selected(&app);
    app.sort_by("p99").unwrap();
    app.take(Ok(sample(7)));
    assert_eq!(selected(&app), before);
    for letter in "/archive".chars() {
        app.press(Press::Letter(letter));
    }
    app.press(Press::Enter);
    assert_eq!(app.subjects().len(), 1);
    app.press(Press::Escape);
    assert_eq!(app.subjects().len(), 3);
    assert!(app.sort_by("colour").unwrap_err().contains("p99.9"));
}

#[test]
fn rates_are_differences_and_a_new_process_begins_anew() {
    let mut app = app(View::Luns);
    let row = |app: &App| app.luns().into_iter().find(|row| row.lun.place == "/srv/disks-1.img").unwrap();
    let rates = row(&app).rates;
    assert_eq!((rates.reads, rates.writes, rates.operations), (4000.0, 150.0, 4151.0));
    assert_eq!((rates.read_bytes, rates.written_bytes), (4000.0 * 4096.0, 150.0 * 65_536.0));
    let p99 = rates.p99.unwrap().as_micros();
    assert!((1000..3500).contains(&p99), "{p99} µs");
    assert!(rates.p999.unwrap() > Duration::from_millis(10));
    let mut restarted = sample(1);
    restarted.daemon.process = 9;
    app.take(Ok(restarted));
    assert_eq!(row(&app).rates, super::sample::Rates::default());
    app.take(Err("no daemon answers".into()));
    assert!(drawn(&mut app, 100, 14, LOOK).contains("! no daemon answers"), "what was seen stays, with why it is old");
    app.press(Press::Letter('p'));
    app.take(Ok(sample(9)));
    assert!(drawn(&mut app, 120, 14, LOOK).contains("paused"));
}

#[test]
fn what_is_gone_while_it_is_looked_at_is_told() {
    let mut app = app(View::Sessions);
    app.press(Press::Enter);
    let mut without = sample(6);
    without.sessions.clear();
    app.take(Ok(without));
    assert!(drawn(&mut app, 100, 14, LOOK).contains("session 3 is gone; Esc goes back"));
}

#[test]
fn scripts_get_tables_and_objects() {
    let app = app(View::Luns);
    let text = screen::plain(&app, 120, LOOK);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("TARGET") && lines[1].contains("4.15k"), "{text}");
    let report = super::report(&app);
    let busiest = report["luns"].as_array().unwrap().iter().find(|lun| lun["store"] == "/srv/disks-1.img").unwrap();
    assert_eq!(busiest["rates"]["reads"], 4000.0);
    assert_eq!(report["sessions"][0]["tsih"], 3);
}
