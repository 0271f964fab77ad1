//! The screen: header, table or close look, keys. Drawn anew each time from [`App`].

use super::app::{App, Sort, Subject, View, of_lun, of_session, of_target};
use super::columns::{Column, LUNS, SESSIONS, TARGETS, fitted};
use super::detail;
use super::figures::{bytes, count, depth, latency, shortened};
use super::look::{Line, Look};
use super::sample::Rates;
use lun::statistics::Counted;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, app: &mut App, look: Look) {
    let area = frame.area();
    paint(frame.buffer_mut(), area, app, look);
}

/// A table's text for a terminal: rows of cells in columns.
struct Table {
    head: Vec<(String, bool, u16)>,
    rows: Vec<Vec<(String, bool)>>,
}

fn paint(buffer: &mut Buffer, area: Rect, app: &mut App, look: Look) {
    if area.width < 10 || area.height < 3 {
        return;
    }
    if app.help {
        let lines = help(look);
        return body(buffer, area, &lines, 0, look);
    }
    // Where there is little height, what is around the table goes.
    let heads = match area.height {
        0..=5 => 0,
        6..=9 => 1,
        _ => 3,
    };
    let lines = [header(app, area.width), totals(app, look), tabs(app, look)];
    for (row, line) in lines.iter().take(heads).enumerate() {
        put(buffer, area, row as u16, line, look);
    }
    let foot = 1;
    let inner = Rect { y: area.y + heads as u16, height: area.height - heads as u16 - foot, ..area };
    put(buffer, area, area.height - 1, &keys(app, look), look);
    app.page = usize::from(inner.height.saturating_sub(2)).max(1);
    if let Some(subject) = app.close.last().cloned() {
        let lines = detail::of(app, &subject, usize::from(area.width), look);
        app.scroll = app.scroll.min(lines.len().saturating_sub(usize::from(inner.height)) as u16);
        return body(buffer, inner, &lines, app.scroll, look);
    }
    if app.view == View::Door {
        let lines = detail::door(app, usize::from(area.width), look);
        app.scroll = app.scroll.min(lines.len().saturating_sub(usize::from(inner.height)) as u16);
        return body(buffer, inner, &lines, app.scroll, look);
    }
    let (table, subjects) = table(app, area.width, look);
    let selected = app.selected(&subjects);
    let style = look.marked();
    let mut x = inner.x;
    buffer.set_style(Rect { height: 1, ..inner }, style);
    for (title, right, width) in &table.head {
        cell(buffer, (x, inner.y), title, *right, *width, style);
        x += width + 1;
    }
    let room = usize::from(inner.height.saturating_sub(1));
    // The selected row is always seen.
    let from = selected.saturating_sub(room.saturating_sub(1));
    for (at, row) in table.rows.iter().enumerate().skip(from).take(room) {
        let y = inner.y + 1 + (at - from) as u16;
        let base = if at == selected { look.marked() } else { Style::new() };
        buffer.set_style(Rect { y, height: 1, ..inner }, base);
        let mut x = inner.x;
        for ((text, bad), (_, right, width)) in row.iter().zip(&table.head) {
            let style = if *bad && at != selected { look.bad() } else { base };
            cell(buffer, (x, y), text, *right, *width, style);
            x += width + 1;
        }
    }
    if table.rows.is_empty() && inner.height > 2 {
        let why = match (&app.sample, app.filter.is_empty()) {
            (None, _) => "no answer yet",
            (Some(_), false) => "nothing fits the filter; Esc ends it",
            (Some(_), true) => "there is none",
        };
        put(buffer, inner, 2, &vec![(why.to_owned(), look.dim())], look);
    }
}

fn cell(buffer: &mut Buffer, at: (u16, u16), text: &str, right: bool, width: u16, style: Style) {
    let length = text.chars().count().min(usize::from(width)) as u16;
    let x = at.0 + if right { width - length } else { 0 };
    buffer.set_stringn(x, at.1, text, usize::from(width), style);
}

fn put(buffer: &mut Buffer, area: Rect, row: u16, line: &Line, look: Look) {
    let mut x = area.x;
    for (text, style) in line {
        let left = usize::from((area.x + area.width).saturating_sub(x));
        let (next, _) = buffer.set_stringn(x, area.y + row, look.text(text), left, *style);
        x = next;
    }
}

fn body(buffer: &mut Buffer, area: Rect, lines: &[Line], scroll: u16, look: Look) {
    for (row, line) in lines.iter().skip(usize::from(scroll)).take(usize::from(area.height)).enumerate() {
        put(buffer, area, row as u16, line, look);
    }
}

fn header(app: &App, width: u16) -> Line {
    let plain = Style::new();
    let Some(sample) = &app.sample else { return vec![("lunette top".into(), plain)] };
    let daemon = &sample.daemon;
    let seconds = sample.time_us / 1_000_000 % 86_400;
    let clock = format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let pace = match app.paused {
        true => "paused".to_owned(),
        false => {
            format!("every {}", latency(Some(app.interval)).replace(".00", "").replace("m", "ms").replace("µ", "µs"))
        }
    };
    let left = format!("lunette {}, process {}, since {}", daemon.version, daemon.process, daemon.since);
    let right = format!("{pace}  {clock}");
    let gap = usize::from(width).saturating_sub(left.chars().count() + right.chars().count()).max(2);
    vec![(format!("{left}{}{right}", " ".repeat(gap)), plain)]
}

fn totals(app: &App, look: Look) -> Line {
    let Some(sample) = &app.sample else { return Vec::new() };
    let (mut now, mut then) = (Counted::default(), Counted::default());
    let before = app.before.as_ref().and_then(|before| Some((before, sample.after(before)?)));
    for lun in &sample.luns {
        let same = |other: &&super::sample::Lun| other.target == lun.target && other.number == lun.number;
        if let Some(old) = before.and_then(|(before, _)| before.luns.iter().find(same)) {
            now.add(&lun.counted);
            then.add(&old.counted);
        }
    }
    let rates = before.map_or_else(Rates::default, |(_, microseconds)| Rates::of(&now, &then, microseconds));
    let text = format!(
        "{} op/s  read {}B/s  write {}B/s  p50 {} p99 {}  depth {}  ",
        count(rates.operations),
        bytes(rates.read_bytes),
        bytes(rates.written_bytes),
        latency(rates.p50),
        latency(rates.p99),
        depth(rates.depth),
    );
    let mut line = vec![(text, look.title())];
    let errors = format!("errors {}/s  ", count(rates.errors));
    line.push((errors, if rates.errors > 0.0 { look.bad() } else { Style::new() }));
    let refused: u64 = sample.door.failed.iter().map(|(_, count)| count).sum();
    let struck: u64 = sample.door.bounds.iter().map(|bound| bound.struck).sum();
    line.push((format!("refused logins {refused}  bounds struck {struck}"), Style::new()));
    if !sample.daemon.silent_workers.is_empty() {
        line.push((format!("  workers that do not answer: {:?}", sample.daemon.silent_workers), look.bad()));
    }
    line
}

fn tabs(app: &App, look: Look) -> Line {
    let mut line = Vec::new();
    let number = |view| match (view, &app.sample) {
        (View::Luns, Some(sample)) => format!(" {}", sample.luns.len()),
        (View::Sessions, Some(sample)) => format!(" {}", sample.sessions.len()),
        _ => String::new(),
    };
    for (at, view) in View::ALL.into_iter().enumerate() {
        let style = if view == app.view { look.marked() } else { Style::new() };
        line.push((format!(" {} {}{} ", at + 1, view.name(), number(view)), style));
        line.push((" ".to_owned(), Style::new()));
    }
    if app.typing || !app.filter.is_empty() {
        let cursor = if app.typing { "_" } else { "" };
        line.push((format!(" filter: {}{cursor}", app.filter), look.title()));
    }
    line
}

fn keys(app: &App, look: Look) -> Line {
    if let Some(why) = &app.trouble {
        return vec![(format!("! {why}"), look.bad())];
    }
    let text = match (app.typing, app.close.is_empty() && app.view != View::Door) {
        (true, _) => "type what to look for; Enter keeps it, Esc ends it",
        (false, true) => "q quit  ? keys  Enter look closely  / filter  < > sort by  r reverse  p pause",
        (false, false) => "q quit  ? keys  Esc back  up, down scroll  p pause",
    };
    vec![(text.to_owned(), look.dim())]
}

fn help(look: Look) -> Vec<Line> {
    const KEYS: &[(&str, &str)] = &[
        ("1 2 3 4, Tab", "LUNs, sessions, targets, the door (logins, refusals, bounds)"),
        ("up, down, j, k", "select a row; PgUp, PgDn, Home, End, g, G too"),
        ("Enter", "look at the row closely"),
        ("Esc", "back; ends the filter"),
        ("left, right, <, >", "sort by another column"),
        ("r", "sort the other way round"),
        ("/", "show only rows in which this stands"),
        ("p, space", "pause, and go on"),
        ("+, -", "longer, shorter between two looks"),
        ("q, Ctrl-C", "quit"),
    ];
    const COLUMNS: &[(&str, &str)] = &[
        ("OP/S RD/S WR/S", "commands, reads, writes a second"),
        ("RDB/S WRB/S", "bytes read, written a second (powers of 1024)"),
        ("P50 P99 P99.9", "latency that this share of the commands did not exceed"),
        ("DEPTH", "commands in flight on average"),
        ("ERR/S", "failures a second; in parentheses: none now, so many since the start"),
        ("USERS", "sessions that have used the LUN"),
    ];
    let mut lines = vec![vec![("Keys".to_owned(), look.title())]];
    let row = |(key, what): &(&str, &str)| vec![(format!("  {key:<18}  {what}"), Style::new())];
    lines.extend(KEYS.iter().map(row));
    lines.push(Vec::new());
    lines.push(vec![("Columns".to_owned(), look.title())]);
    lines.extend(COLUMNS.iter().map(row));
    lines.push(Vec::new());
    lines.push(vec![("any key goes back".to_owned(), look.dim())]);
    lines
}

fn cells<T>(rows: &[T], columns: &[Column<T>], width: u16, sort: Sort, look: Look) -> Table {
    let chosen = fitted(columns, width);
    let title = |(at, width): &(usize, u16)| {
        let column = &columns[*at];
        let mark = if *at == sort.column { look.sorted(sort.reversed).to_string() } else { String::new() };
        // The mark stands where the number ends, so that it takes no room from the title of a narrow column.
        let title: String = column.title.chars().take(usize::from(*width) - mark.chars().count()).collect();
        (title + &mark, column.right, *width)
    };
    let row = |row: &T| {
        let one = |(at, width): &(usize, u16)| {
            let cell = (columns[*at].cell)(row);
            (look.text(&shortened(&cell.text, usize::from(*width), look.ellipsis())), cell.bad)
        };
        chosen.iter().map(one).collect()
    };
    Table { head: chosen.iter().map(title).collect(), rows: rows.iter().map(row).collect() }
}

fn table(app: &App, width: u16, look: Look) -> (Table, Vec<Subject>) {
    let sort = app.sort();
    match app.view {
        View::Luns => {
            let rows = app.arranged(app.luns(), LUNS, of_lun);
            (cells(&rows, LUNS, width, sort, look), rows.iter().map(of_lun).collect())
        }
        View::Sessions => {
            let rows = app.arranged(app.sessions(), SESSIONS, of_session);
            (cells(&rows, SESSIONS, width, sort, look), rows.iter().map(of_session).collect())
        }
        View::Targets | View::Door => {
            let rows = app.arranged(app.targets(), TARGETS, of_target);
            (cells(&rows, TARGETS, width, sort, look), rows.iter().map(of_target).collect())
        }
    }
}

/// The view's table as plain text, for scripts and logs.
pub fn plain(app: &App, width: u16, look: Look) -> String {
    if app.view == View::Door {
        let lines = detail::door(app, usize::from(width), look);
        let text = |line: &Line| line.iter().map(|(text, _)| look.text(text)).collect::<String>();
        return lines.iter().map(|line| text(line).trim_end().to_owned() + "\n").collect();
    }
    let (table, _) = table(app, width, look);
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (text, (_, right, width)) in cells.zip(&table.head) {
            let width = usize::from(*width);
            line += &if *right { format!("{text:>width$} ") } else { format!("{text:<width$} ") };
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut out = line(&mut table.head.iter().map(|(title, ..)| title.as_str()));
    for row in &table.rows {
        out += &line(&mut row.iter().map(|(text, _)| text.as_str()));
    }
    out
}
