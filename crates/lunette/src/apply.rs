//! `lunette apply`: has a running daemon serve what its file, or another one, says now.

use crate::administer::client::{Error, Whom};
use crate::administer::show;
use crate::configuration;
use crate::failure::{Cause, Failure};
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  lunette apply --dry-run
  lunette apply
  lunette apply new.toml --force

Only what is different changes; whoever is logged in goes on. What takes something away from a session is refused
unless it is forced. Where a step fails, those before it are undone (docs/configuration.md, live changes).

Exit codes: 0 it runs as the file says, 1 a step failed and everything is as it was, 2 the file is wrong, 3 no daemon
answers, 6 it is in use, or the daemon's file says something that nobody has applied, 7 it takes a restart. With
--dry-run the same, of what would happen.";

/// Arguments of `lunette apply`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Another file, which takes the place of the daemon's [default: the daemon's own, as it is now]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Take away what is in use; the initiators are told
    #[arg(long)]
    force: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whom: Whom,
}

/// Asks the daemon and tells what came of it.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let text = arguments.file.as_deref().map(configuration::load).transpose()?;
    let client = arguments.whom.client()?;
    let flags = [("dry-run", arguments.dry_run), ("force", arguments.force)];
    let said: Vec<_> = flags.iter().filter(|(_, said)| *said).map(|(name, _)| format!("{name}=true")).collect();
    let query = if said.is_empty() { String::new() } else { format!("?{}", said.join("&")) };
    let answer = match text {
        Some(text) => client.ask(Method::PUT, &format!("/v1/configuration{query}"), Some(&json!({ "text": text }))),
        None => client.ask(Method::POST, &format!("/v1/configuration/reload{query}"), None),
    };
    let plan = answer.map_err(|error| refused(error, arguments))?;
    // Whoever asked may have closed the pipe.
    let print = |text: &str| drop(std::io::stdout().write_all(text.as_bytes()));
    if arguments.json {
        print(&format!("{plan:#}\n"));
    } else {
        show::remarks(&plan).iter().for_each(|line| eprintln!("{line}"));
        print(&show::plan(&plan));
    }
    // Nothing was done: whether it could be.
    let stuck = plan["stuck"].as_array().is_some_and(|stuck| !stuck.is_empty());
    match plan["done"] == true {
        true => Ok(()),
        false if stuck => Err(Failure::because(Cause::Unavailable, "it would be refused: it takes a restart")),
        false if plan["needs_force"] == true && !arguments.force => {
            Err(Failure::because(Cause::InUse, "it would be refused: somebody uses it; --force does it all the same"))
        }
        false => Ok(()),
    }
}

/// Why it was refused; what is wrong with a file that was named is told with its name.
fn refused(error: Error, arguments: &Arguments) -> Failure {
    let Error::Refused(mut refused) = error else { return error.failure() };
    if let (Some(file), Some(findings)) = (&arguments.file, refused.problem["findings"].as_array_mut()) {
        findings.iter_mut().for_each(|finding| finding["file"] = Value::from(file.display().to_string()));
    }
    if arguments.json {
        let _ = writeln!(std::io::stdout(), "{:#}", refused.problem);
    }
    refused.failure()
}
