//! The terminal: taken for the time of the screen, and given back as it was however that ends.

use super::app::{App, Press};
use super::look::Look;
use super::sample::Sample;
use super::screen;
use super::source::Source;
use crate::failure::Failure;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use std::io::Stdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long nothing is looked at while nothing comes.
const TURN: Duration = Duration::from_millis(50);

/// The terminal, as long as this lives.
struct Taken;

impl Taken {
    fn take() -> std::io::Result<Taken> {
        enable_raw_mode()?;
        let taken = Taken;
        execute!(std::io::stdout(), EnterAlternateScreen)?;
        // A panic's words are for the terminal as it was.
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    let _ = execute!(std::io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Shows the screen until it is over.
pub fn run(app: App, source: Box<dyn Source>, look: Look) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::runtime(format!("the terminal: {error}"));
    let told = Arc::new(AtomicBool::new(false));
    listen(Arc::clone(&told)).map_err(failed)?;
    let taken = Taken::take().map_err(failed)?;
    let outcome = Terminal::new(CrosstermBackend::new(std::io::stdout()))
        .and_then(|mut terminal| show(&mut terminal, app, source, look, &told));
    drop(taken);
    match outcome {
        // The terminal has gone before us.
        Err(error) if told.load(Ordering::Relaxed) => drop(error),
        other => other.map_err(failed)?,
    }
    Ok(())
}

/// Signals that end it set the flag.
fn listen(told: Arc<AtomicBool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?]
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let [terminate, interrupt, hang_up] = &mut signals;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        told.store(true, Ordering::Relaxed);
    })?;
    Ok(())
}

/// Asks for samples beside the screen: a daemon that is slow to answer must not make keys slow.
fn sampling(
    mut source: Box<dyn Source>,
    interval: Arc<AtomicU64>,
) -> std::io::Result<Receiver<Result<Sample, String>>> {
    let (samples, received) = channel();
    std::thread::Builder::new().name("samples".to_owned()).spawn(move || feed(&mut *source, &interval, &samples))?;
    Ok(received)
}

fn feed(source: &mut dyn Source, interval: &AtomicU64, samples: &Sender<Result<Sample, String>>) {
    loop {
        // In steps, so that a shorter interval begins at once.
        let mut slept = 0;
        while slept < interval.load(Ordering::Relaxed) {
            std::thread::sleep(TURN);
            slept += TURN.as_millis() as u64;
        }
        if samples.send(source.sample().map_err(|failure| failure.to_string())).is_err() {
            return;
        }
    }
}

fn show(
    terminal: &mut Terminal<CrosstermBackend<Stdout>>,
    mut app: App,
    source: Box<dyn Source>,
    look: Look,
    told: &AtomicBool,
) -> std::io::Result<()> {
    let milliseconds = |interval: Duration| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    let interval = Arc::new(AtomicU64::new(milliseconds(app.interval)));
    let samples = sampling(source, Arc::clone(&interval))?;
    let mut changed = true;
    while !app.over && !told.load(Ordering::Relaxed) {
        if changed {
            terminal.draw(|frame| screen::draw(frame, &mut app, look))?;
            changed = false;
        }
        while let Ok(sample) = samples.try_recv() {
            app.take(sample);
            changed = true;
        }
        if event::poll(TURN)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match pressed(key) {
                    Some(press) => {
                        defect(press);
                        app.press(press);
                    }
                    None => app.over |= ends(key),
                },
                _ => {}
            }
            interval.store(milliseconds(app.interval), Ordering::Relaxed);
            changed = true;
        }
    }
    Ok(())
}

/// For the test that a panic leaves the terminal as it was.
fn defect(press: Press) {
    let asked = || std::env::var("LUNETTE_DEBUG_PANIC").is_ok_and(|what| what == "top");
    assert!(!(cfg!(debug_assertions) && press == Press::Letter('!') && asked()), "as was asked for");
}

fn ends(key: KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd'))
}

fn pressed(key: KeyEvent) -> Option<Press> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return None;
    }
    Some(match key.code {
        KeyCode::Char(letter) => Press::Letter(letter),
        KeyCode::Up => Press::Up,
        KeyCode::Down => Press::Down,
        KeyCode::Left => Press::Left,
        KeyCode::Right => Press::Right,
        KeyCode::PageUp => Press::PageUp,
        KeyCode::PageDown => Press::PageDown,
        KeyCode::Home => Press::Home,
        KeyCode::End => Press::End,
        KeyCode::Enter => Press::Enter,
        KeyCode::Esc => Press::Escape,
        KeyCode::Backspace => Press::Backspace,
        KeyCode::Tab => Press::Tab,
        KeyCode::BackTab => Press::BackTab,
        KeyCode::F(1) => Press::Letter('?'),
        _ => return None,
    })
}
