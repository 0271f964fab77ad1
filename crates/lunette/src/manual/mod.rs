//! `lunette man` and `lunette completions`: manual pages and what shells complete, made of the commands'
//! definitions, so that neither says what the command line does not know.

mod page;

use crate::Line;
use crate::failure::Failure;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `lunette man`.
#[derive(Args)]
#[command(after_help = "Examples:\n  lunette man /usr/local/share/man/man1\n  lunette man | man -l -\n\n\
    Exit codes: 0 written, 1 it failed.")]
pub struct ManArguments {
    /// Write a page for every command into this directory, which is made; without it, the first page to standard
    /// output
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Arguments of `lunette completions`.
#[derive(Args)]
#[command(after_help = "Examples:\n  lunette completions bash > /etc/bash_completion.d/lunette\n  \
    lunette completions zsh > /usr/local/share/zsh/site-functions/_lunette\n  \
    lunette completions fish > ~/.config/fish/completions/lunette.fish\n\n\
    Exit codes: 0 written, 1 it failed, 2 there is no such shell.")]
pub struct CompletionsArguments {
    /// For which shell
    shell: Shell,
}

/// Writes the pages.
pub fn man(arguments: &ManArguments) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::runtime(format!("the pages cannot be written: {error}"));
    let pages = pages();
    let Some(directory) = &arguments.directory else {
        let text = pages.into_iter().next().map(|(_, text)| text).unwrap_or_default();
        // Whoever asked may have closed the pipe.
        let _ = std::io::stdout().write_all(&text);
        return Ok(());
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    for (name, text) in pages {
        std::fs::write(directory.join(name), text).map_err(failed)?;
    }
    Ok(())
}

/// Writes what a shell completes.
pub fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "lunette", &mut text);
    let _ = std::io::stdout().write_all(&text);
    Ok(())
}

fn command() -> Command {
    let mut command = Line::command().disable_help_subcommand(true);
    command.build();
    command
}

/// Every page by the name of its file, the program's first.
fn pages() -> Vec<(String, Vec<u8>)> {
    fn add(command: &Command, parents: &[&Command], pages: &mut Vec<(String, Vec<u8>)>) {
        let shown = |command: &&Command| !command.is_hide_set();
        let mut name: Vec<&str> = parents.iter().map(|parent| parent.get_name()).collect();
        name.push(command.get_name());
        pages.push((format!("{}.1", name.join("-")), page::render(command, parents)));
        let parents: Vec<&Command> = parents.iter().copied().chain([command]).collect();
        command.get_subcommands().filter(shown).for_each(|inner| add(inner, &parents, pages));
    }
    let mut pages = Vec::new();
    add(&command(), &[], &mut pages);
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_examples_files_and_exit_codes() {
        let pages = pages();
        let all: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["lunette.1", "lunette-serve.1", "lunette-copy.1", "lunette-man.1"] {
            assert!(all.contains(&name), "{name} of {all:?}");
        }
        assert!(!all.contains(&"lunette-hold.1") && !all.contains(&"lunette-opener.1"), "what is hidden has no page");
        for (name, text) in &pages {
            let text = String::from_utf8(text.clone()).unwrap();
            for section in ["NAME", "SYNOPSIS", "EXAMPLES", "EXIT STATUS", "FILES", "SEE ALSO"] {
                let found =
                    text.contains(&format!(".SH {section}\n")) || text.contains(&format!(".SH \"{section}\"\n"));
                // A page of a part of a command has its examples in the command's, and who takes the words of another
                // program has them in that one's.
                let words = |command: &Command| command.get_arguments().any(clap::Arg::is_trailing_var_arg_set);
                let old = command()
                    .get_subcommands()
                    .any(|one| *name == format!("lunette-{}.1", one.get_name()) && words(one));
                let part = (name.matches('-').count() > 1 || old) && section == "EXAMPLES";
                assert!(found || part, "{name} has no {section}");
            }
        }
    }

    #[test]
    fn shells_complete_what_there_is() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command(), "lunette", &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("serve") && text.contains("state-dir"), "{shell}");
        }
    }
}
