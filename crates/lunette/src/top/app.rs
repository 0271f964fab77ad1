//! What the screen shows and what keys change of it: the view, what is selected, by what is sorted, what is left
//! out. It knows no terminal.

use super::columns::{Column, LUNS, LunRow, SESSIONS, SessionRow, TARGETS, TargetRow};
use super::sample::{Rates, Sample, failures};
use lun::statistics::Counted;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// Samples that are remembered of each row, for its little picture.
pub const HISTORY: usize = 240;
/// Rows of which a history is kept.
const HISTORIES: usize = 4096;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// All disks.
    Luns,
    /// All sessions.
    Sessions,
    /// All targets.
    Targets,
    /// Logins, refusals, bounds.
    Door,
}

impl View {
    /// In the order of their keys.
    pub const ALL: [View; 4] = [View::Luns, View::Sessions, View::Targets, View::Door];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            View::Luns => "LUNs",
            View::Sessions => "Sessions",
            View::Targets => "Targets",
            View::Door => "Door",
        }
    }
}

/// Something that can be looked at closely.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A disk: target and number.
    Lun(String, u16),
    /// A session: number and since when.
    Session(u16, String),
    /// A target.
    Target(String),
}

/// What a key means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// A letter.
    Letter(char),
    /// Arrows and their kin.
    Up,
    /// One row down.
    Down,
    /// The column to the left.
    Left,
    /// The column to the right.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// The first row.
    Home,
    /// The last row.
    End,
    /// Into it.
    Enter,
    /// Out of it.
    Escape,
    /// The letter before.
    Backspace,
    /// The next view.
    Tab,
    /// The view before.
    BackTab,
}

/// How a table is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// The column.
    pub column: usize,
    /// The other way round.
    pub reversed: bool,
}

/// What was seen of a row lately, the newest last.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Operations a second.
    pub operations: VecDeque<f64>,
    /// Bytes a second.
    pub bytes: VecDeque<f64>,
    /// 99th percentile in microseconds.
    pub p99: VecDeque<f64>,
}

impl History {
    fn push(&mut self, rates: &Rates) {
        let values = [
            (&mut self.operations, rates.operations),
            (&mut self.bytes, rates.read_bytes + rates.written_bytes),
            (&mut self.p99, rates.p99.map_or(0.0, |p99| p99.as_secs_f64() * 1e6)),
        ];
        for (list, value) in values {
            if list.len() >= HISTORY {
                list.pop_front();
            }
            list.push_back(value);
        }
    }
}

/// All of it.
pub struct App {
    /// The latest.
    pub sample: Option<Sample>,
    /// The one before it.
    pub before: Option<Sample>,
    /// Why there is no newer one.
    pub trouble: Option<String>,
    /// The view.
    pub view: View,
    /// What is looked at closely, the innermost last.
    pub close: Vec<Subject>,
    /// How far the close look is scrolled.
    pub scroll: u16,
    selected: HashMap<View, Option<Subject>>,
    /// How each view is sorted.
    sorts: HashMap<View, Sort>,
    /// Only rows in which this stands.
    pub filter: String,
    /// It is being typed.
    pub typing: bool,
    /// The list of keys is shown.
    pub help: bool,
    /// Nothing moves.
    pub paused: bool,
    /// It is over.
    pub over: bool,
    /// Between two samples.
    pub interval: Duration,
    /// Rows that the table has room for, as last drawn.
    pub page: usize,
    histories: BTreeMap<Subject, History>,
}

impl App {
    /// Nothing is known yet.
    pub fn new(view: View, interval: Duration) -> App {
        let sorts = HashMap::from([
            (View::Luns, Sort { column: column(LUNS, "OP/S"), reversed: false }),
            (View::Sessions, Sort { column: column(SESSIONS, "OP/S"), reversed: false }),
            (View::Targets, Sort { column: column(TARGETS, "OP/S"), reversed: false }),
        ]);
        App {
            sample: None,
            before: None,
            trouble: None,
            view,
            close: Vec::new(),
            scroll: 0,
            selected: HashMap::new(),
            sorts,
            filter: String::new(),
            typing: false,
            help: false,
            paused: false,
            over: false,
            interval,
            page: 10,
            histories: BTreeMap::new(),
        }
    }

    /// A new sample, or why there is none.
    pub fn take(&mut self, sample: Result<Sample, String>) {
        if self.paused {
            return;
        }
        match sample {
            Ok(sample) => {
                self.trouble = None;
                self.before = self.sample.replace(sample);
                self.remember();
            }
            Err(why) => self.trouble = Some(why),
        }
    }

    fn remember(&mut self) {
        let mut now: Vec<(Subject, Rates)> = Vec::new();
        if let Some(sample) = &self.sample
            && self.before.as_ref().is_some_and(|before| sample.after(before).is_some())
        {
            let before = self.before.as_ref();
            for lun in &sample.luns {
                now.push((Subject::Lun(lun.target.clone(), lun.number), sample.lun_rates(lun, before)));
            }
            for session in &sample.sessions {
                let subject = Subject::Session(session.number, session.since.clone());
                now.push((subject, sample.session_rates(session, before)));
            }
            for target in self.targets() {
                now.push((Subject::Target(target.name), target.rates));
            }
        }
        now.truncate(HISTORIES);
        let there: std::collections::BTreeSet<&Subject> = now.iter().map(|(subject, _)| subject).collect();
        self.histories.retain(|subject, _| there.contains(subject));
        for (subject, rates) in now {
            self.histories.entry(subject).or_default().push(&rates);
        }
    }

    /// What was seen of something lately.
    pub fn history(&self, subject: &Subject) -> Option<&History> {
        self.histories.get(subject)
    }

    /// The disks with what they do, in no order.
    pub fn luns(&self) -> Vec<LunRow> {
        let Some(sample) = &self.sample else { return Vec::new() };
        let row = |lun: &super::sample::Lun| {
            let uses = |session: &&super::sample::Session| {
                session.target == lun.target && session.luns.iter().any(|(number, _)| *number == lun.number)
            };
            LunRow {
                rates: sample.lun_rates(lun, self.before.as_ref()),
                sessions: sample.sessions.iter().filter(uses).count(),
                lun: lun.clone(),
            }
        };
        sample.luns.iter().map(row).collect()
    }

    /// The sessions with what they do.
    pub fn sessions(&self) -> Vec<SessionRow> {
        let Some(sample) = &self.sample else { return Vec::new() };
        let rates = |session| sample.session_rates(session, self.before.as_ref());
        sample.sessions.iter().map(|session| SessionRow { rates: rates(session), session: session.clone() }).collect()
    }

    /// The targets, each with what its disks do.
    pub fn targets(&self) -> Vec<TargetRow> {
        let Some(sample) = &self.sample else { return Vec::new() };
        let mut names: Vec<&str> = sample.luns.iter().map(|lun| lun.target.as_str()).collect();
        names.extend(sample.sessions.iter().map(|session| session.target.as_str()));
        names.sort_unstable();
        names.dedup();
        let row = |name: &str| {
            let (mut now, mut then) = (Counted::default(), Counted::default());
            let luns: Vec<_> = sample.luns.iter().filter(|lun| lun.target == name).collect();
            let before = self.before.as_ref().and_then(|before| Some((before, sample.after(before)?)));
            for lun in &luns {
                let same = |other: &&super::sample::Lun| other.target == lun.target && other.number == lun.number;
                // One that came between has no rate yet.
                if let Some(old) = before.and_then(|(before, _)| before.luns.iter().find(same)) {
                    now.add(&lun.counted);
                    then.add(&old.counted);
                }
            }
            TargetRow {
                name: name.to_owned(),
                luns: luns.len(),
                sessions: sample.sessions.iter().filter(|session| session.target == name).count(),
                rates: before.map_or_else(Rates::default, |(_, microseconds)| Rates::of(&now, &then, microseconds)),
                failures: luns.iter().map(|lun| failures(&lun.counted)).sum(),
            }
        };
        names.into_iter().map(row).collect()
    }

    /// How the view is sorted.
    pub fn sort(&self) -> Sort {
        self.sorts.get(&self.view).copied().unwrap_or(Sort { column: 0, reversed: false })
    }

    /// The rows of a table as they are shown: sorted, and without what the filter leaves out.
    pub fn arranged<T>(&self, mut rows: Vec<T>, columns: &[Column<T>], subject: fn(&T) -> Subject) -> Vec<T> {
        let filter = self.filter.to_lowercase();
        if !filter.is_empty() {
            rows.retain(|row| columns.iter().any(|column| (column.cell)(row).text.to_lowercase().contains(&filter)));
        }
        let Sort { column, reversed } = self.sort();
        let Some(by) = columns.get(column) else { return rows };
        rows.sort_by(|one, two| {
            let order = (by.cell)(one).key.compare(&(by.cell)(two).key);
            let order = if reversed { order.reverse() } else { order };
            // What is equal keeps its place from one sample to the next.
            order.then_with(|| subject(one).cmp(&subject(two)))
        });
        rows
    }

    /// What the rows of the view are about, as they are shown.
    pub fn subjects(&self) -> Vec<Subject> {
        match self.view {
            View::Luns => self.arranged(self.luns(), LUNS, of_lun).iter().map(of_lun).collect(),
            View::Sessions => self.arranged(self.sessions(), SESSIONS, of_session).iter().map(of_session).collect(),
            View::Targets => self.arranged(self.targets(), TARGETS, of_target).iter().map(of_target).collect(),
            View::Door => Vec::new(),
        }
    }

    /// The row that is selected; the first where that which was is gone.
    pub fn selected(&self, subjects: &[Subject]) -> usize {
        let wanted = self.selected.get(&self.view).and_then(Option::as_ref);
        wanted.and_then(|wanted| subjects.iter().position(|subject| subject == wanted)).unwrap_or(0)
    }

    /// A key was pressed.
    pub fn press(&mut self, press: Press) {
        if self.help {
            self.help = false;
            self.over |= press == Press::Letter('q');
            return;
        }
        if self.typing {
            match press {
                Press::Enter => self.typing = false,
                Press::Escape => {
                    self.typing = false;
                    self.filter.clear();
                }
                Press::Backspace => drop(self.filter.pop()),
                Press::Letter(letter) if self.filter.len() < 64 => self.filter.push(letter),
                _ => {}
            }
            return;
        }
        match press {
            Press::Letter('q') => self.over = true,
            Press::Letter('?' | 'h') => self.help = true,
            Press::Letter('p' | ' ') => self.paused = !self.paused,
            Press::Letter('/') => {
                self.close.clear();
                self.typing = true;
            }
            Press::Letter('+') => self.interval = (self.interval * 2).min(Duration::from_secs(64)),
            Press::Letter('-') => self.interval = (self.interval / 2).max(Duration::from_millis(250)),
            Press::Letter('1' | 'l') => self.look_at(View::Luns),
            Press::Letter('2' | 's') => self.look_at(View::Sessions),
            Press::Letter('3' | 't') => self.look_at(View::Targets),
            Press::Letter('4' | 'd') => self.look_at(View::Door),
            Press::Tab => self.step_view(1),
            Press::BackTab => self.step_view(View::ALL.len() - 1),
            Press::Escape | Press::Backspace if !self.close.is_empty() => {
                self.close.pop();
                self.scroll = 0;
            }
            Press::Escape => self.filter.clear(),
            _ if !self.close.is_empty() || self.view == View::Door => self.scroll_by(press),
            Press::Letter('r') => {
                if let Some(sort) = self.sorts.get_mut(&self.view) {
                    sort.reversed = !sort.reversed;
                }
            }
            Press::Left | Press::Letter('<') => self.step_sort(false),
            Press::Right | Press::Letter('>') => self.step_sort(true),
            Press::Enter => {
                let subjects = self.subjects();
                if let Some(subject) = subjects.get(self.selected(&subjects)).cloned() {
                    self.close.push(subject);
                    self.scroll = 0;
                }
            }
            press => self.select(press),
        }
    }

    fn look_at(&mut self, view: View) {
        self.view = view;
        self.close.clear();
        self.scroll = 0;
    }

    fn step_view(&mut self, by: usize) {
        let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.look_at(View::ALL[(at + by) % View::ALL.len()]);
    }

    fn step_sort(&mut self, forward: bool) {
        let columns = match self.view {
            View::Luns => LUNS.len(),
            View::Sessions => SESSIONS.len(),
            View::Targets => TARGETS.len(),
            View::Door => return,
        };
        if let Some(sort) = self.sorts.get_mut(&self.view) {
            sort.column = (sort.column + if forward { 1 } else { columns - 1 }) % columns;
            sort.reversed = false;
        }
    }

    fn scroll_by(&mut self, press: Press) {
        let page = self.page.max(1) as u16;
        self.scroll = match press {
            Press::Up | Press::Letter('k') => self.scroll.saturating_sub(1),
            Press::Down | Press::Letter('j') => self.scroll.saturating_add(1),
            Press::PageUp => self.scroll.saturating_sub(page),
            Press::PageDown => self.scroll.saturating_add(page),
            Press::Home | Press::Letter('g') => 0,
            Press::End | Press::Letter('G') => u16::MAX,
            _ => self.scroll,
        };
    }

    fn select(&mut self, press: Press) {
        let subjects = self.subjects();
        let at = self.selected(&subjects);
        let last = subjects.len().saturating_sub(1);
        let to = match press {
            Press::Up | Press::Letter('k') => at.saturating_sub(1),
            Press::Down | Press::Letter('j') => (at + 1).min(last),
            Press::PageUp => at.saturating_sub(self.page),
            Press::PageDown => (at + self.page).min(last),
            Press::Home | Press::Letter('g') => 0,
            Press::End | Press::Letter('G') => last,
            _ => return,
        };
        self.selected.insert(self.view, subjects.get(to).cloned());
    }

    /// Sorts a view by the column of this title.
    pub fn sort_by(&mut self, title: &str) -> Result<(), String> {
        fn at<T>(columns: &[Column<T>], title: &str) -> Result<usize, String> {
            let found = columns.iter().position(|column| column.title.eq_ignore_ascii_case(title));
            found.ok_or_else(|| {
                let all: Vec<_> = columns.iter().map(|column| column.title.to_lowercase()).collect();
                format!("there is no column {title}; there are {}", all.join(", "))
            })
        }
        let column = match self.view {
            View::Luns => at(LUNS, title)?,
            View::Sessions => at(SESSIONS, title)?,
            View::Targets => at(TARGETS, title)?,
            View::Door => return Err("the door has no columns to sort by".to_owned()),
        };
        self.sorts.insert(self.view, Sort { column, reversed: false });
        Ok(())
    }
}

fn column<T>(columns: &[Column<T>], title: &str) -> usize {
    columns.iter().position(|column| column.title == title).unwrap_or(0)
}

/// What a row is about.
pub fn of_lun(row: &LunRow) -> Subject {
    Subject::Lun(row.lun.target.clone(), row.lun.number)
}

/// What a row is about.
pub fn of_session(row: &SessionRow) -> Subject {
    Subject::Session(row.session.number, row.session.since.clone())
}

/// What a row is about.
pub fn of_target(row: &TargetRow) -> Subject {
    Subject::Target(row.name.clone())
}
