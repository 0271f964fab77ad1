//! The commands `lunette target|lun|portal|acl|account|…`: made from the rows of [`super::kind`], carried out by the
//! daemon.

use super::client::{Client, Error, Whom};
use super::kind::{KINDS, Kind, Verb, path};
use super::{secret, show};
use crate::control::keys::{self, Key};
use crate::failure::Failure;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use hyper::Method;
use serde_json::{Map, Value, json};
use std::io::Write;

/// The words of a command for the kind at this place of the table.
pub struct Arguments<const KIND: usize>(ArgMatches);

impl<const KIND: usize> Args for Arguments<KIND> {
    fn augment_args(command: Command) -> Command {
        augmented(command, &KINDS[KIND])
    }

    fn augment_args_for_update(command: Command) -> Command {
        augmented(command, &KINDS[KIND])
    }
}

impl<const KIND: usize> FromArgMatches for Arguments<KIND> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Arguments(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = matches.clone();
        Ok(())
    }
}

fn augmented(command: Command, kind: &'static Kind) -> Command {
    let mut command = command.about(kind.about).subcommand_required(true).arg_required_else_help(true);
    let examples: Vec<&str> = kind.verbs.iter().map(|(.., example)| *example).collect();
    command = command.after_help(format!("Examples:\n  {}", examples.join("\n  ")));
    for (verb, about, example) in kind.verbs {
        command = command.subcommand(verb_command(kind, *verb, about, example));
    }
    command
}

fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::List => "list",
        Verb::Show => "show",
        Verb::Add => "add",
        Verb::Remove => "remove",
        Verb::Set => "set",
    }
}

fn verb_command(kind: &'static Kind, verb: Verb, about: &'static str, example: &'static str) -> Command {
    let mut command = Command::new(verb_name(verb)).about(about).after_help(format!("Examples:\n  {example}"));
    if verb == Verb::List {
        command = command.visible_alias("ls");
    }
    command = Whom::augment_args(command);
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
    command = command.arg(json.help("As JSON, whole"));
    let changes = matches!(verb, Verb::Add | Verb::Set | Verb::Remove) && !kind.keys.is_empty();
    if changes {
        let flag = |name: &'static str, help: &'static str| {
            Arg::new(name).long(name).action(ArgAction::SetTrue).help(help).help_heading("Change")
        };
        command = command.arg(flag("dry-run", "Only show what would be done"));
        command = command.arg(flag("force", "Take away what is in use; the initiators are told"));
    }
    let names = match verb {
        Verb::List => {
            if kind.narrowed.is_some() {
                let (name, help) = kind.names[0];
                command = command.arg(Arg::new(name).help(format!("{help}; all where none is named")));
            }
            &[][..]
        }
        // What names a new one is among its keys.
        Verb::Add => match kind.word_to_add {
            Some((_, name, _)) if kind.names[..kind.names_to_add].iter().any(|(known, _)| *known == name) => &[][..],
            Some(_) if kind.names_to_add == 1 && kind.names.len() == 1 => &[][..],
            _ => &kind.names[..kind.names_to_add],
        },
        Verb::Show | Verb::Remove | Verb::Set => kind.names,
    };
    for (name, help) in names {
        command = command.arg(Arg::new(*name).required(true).help(*help));
    }
    match verb {
        Verb::Add => {
            if let Some((_, name, help)) = kind.word_to_add {
                command = command.arg(Arg::new(name).required(true).help(help));
            }
            if kind.word == "acl" {
                let position = Arg::new("position")
                    .long("position")
                    .value_name("N")
                    .value_parser(clap::value_parser!(u16).range(1..));
                command =
                    command.arg(position.help("Before which rule it comes, from 1; behind all where nothing is said"));
            }
            let word = kind.word_to_add.map(|(key, ..)| key);
            let keys = kind.keys.iter().filter(|key| Some(key.name) != word);
            command = keys.fold(command, |command, key| match option(key) {
                Some(option) => command.arg(option.required(key.needed)),
                None => command,
            });
        }
        Verb::Set => {
            command = kind.keys.iter().filter_map(option).fold(command, Command::arg);
            let unset =
                Arg::new("unset").long("unset").value_name("KEY").action(ArgAction::Append).value_delimiter(',');
            let keys = kind.keys.iter().filter(|key| !key.needed && key.kind != keys::Kind::Secret);
            let keys: Vec<&'static str> = keys.map(|key| key.option).collect();
            let unset = unset.value_parser(clap::builder::PossibleValuesParser::new(keys));
            command = command.arg(unset.help("Say nothing of this any more, so that its default holds"));
        }
        Verb::List | Verb::Show | Verb::Remove => {}
    }
    if kind.word == "account" && matches!(verb, Verb::Add | Verb::Set) {
        let from = Arg::new("secret-from").long("secret-from").value_name("FILE").conflicts_with_all([
            "secret-file",
            "secret-env",
            "secret-credential",
        ]);
        command = command.arg(
            from.help("Read the secret from this file, or with - from standard input; on a terminal it is asked for"),
        );
    }
    command
}

/// The option of a key.
fn option(key: &'static Key) -> Option<Arg> {
    let arg = Arg::new(key.option).long(key.option).value_name(key.value).help(sentence(key.about));
    Some(match key.kind {
        keys::Kind::Secret => return None,
        keys::Kind::Flag => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(clap::builder::PossibleValuesParser::new(["true", "false"]))
            .hide_possible_values(true),
        keys::Kind::Word(words) => arg.value_parser(clap::builder::PossibleValuesParser::new(words)),
        keys::Kind::Number(least, most) => arg.value_parser(clap::value_parser!(i64).range(least..=most)),
        keys::Kind::Texts => arg.action(ArgAction::Append).value_delimiter(','),
        keys::Kind::Numbers(least, most) => arg
            .action(ArgAction::Append)
            .value_delimiter(',')
            .value_parser(clap::value_parser!(i64).range(least..=most)),
        keys::Kind::Units => arg.action(ArgAction::Append),
        keys::Kind::Text | keys::Kind::Redirect | keys::Kind::Amount | keys::Kind::Rate => arg,
    })
}

/// With a capital, as help has it.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

impl<const KIND: usize> Arguments<KIND> {
    /// Carries it out.
    pub fn run(&self) -> Result<(), Failure> {
        let kind = &KINDS[KIND];
        let Some((word, matches)) = self.0.subcommand() else { return Ok(()) };
        let whom = Whom::from_arg_matches(matches).map_err(|error| Failure::input(error.to_string()))?;
        let verb = kind.verbs.iter().find(|(verb, ..)| verb_name(*verb) == word).map(|(verb, ..)| *verb);
        let client = whom.client()?;
        match verb {
            Some(Verb::List) => list(kind, &client, matches),
            Some(Verb::Show) => show(kind, &client, matches),
            Some(Verb::Remove) => remove(kind, &client, matches),
            Some(verb) => change(kind, verb, &client, matches),
            None => Ok(()),
        }
    }
}

fn word<'m>(matches: &'m ArgMatches, name: &str) -> Option<&'m str> {
    matches.try_get_one::<String>(name).ok().flatten().map(String::as_str)
}

/// The path of what is named.
fn named(kind: &Kind, matches: &ArgMatches) -> String {
    let names: Vec<&str> = kind.names.iter().filter_map(|(name, _)| word(matches, name)).collect();
    path(kind.path, &names)
}

fn list(kind: &Kind, client: &Client, matches: &ArgMatches) -> Result<(), Failure> {
    let narrowed = kind.narrowed.and_then(|template| Some(path(template, &[word(matches, kind.names[0].0)?])));
    let mut answer = client.get(narrowed.as_deref().unwrap_or(kind.all)).map_err(Error::failure)?;
    if narrowed.is_none() && kind.word == "acl" {
        let targets = answer["targets"].as_array().into_iter().flatten();
        let rules: Vec<Value> =
            targets.flat_map(|target| target["rules"].as_array().cloned().unwrap_or_default()).collect();
        answer = json!({ "rules": rules });
    }
    if matches.get_flag("json") {
        return print_json(&answer);
    }
    let mut out = String::new();
    for worker in answer["workers"].as_array().into_iter().flatten().filter(|worker| worker["answers"] == false) {
        out += &format!("worker {} does not answer; its sessions are not listed\n", worker["worker"]);
    }
    let rows = answer[kind.list].as_array().cloned().unwrap_or_default();
    print(&(out + &show::table(kind.columns, &rows)))
}

fn show(kind: &Kind, client: &Client, matches: &ArgMatches) -> Result<(), Failure> {
    let thing = client.get(&named(kind, matches)).map_err(Error::failure)?;
    match matches.get_flag("json") {
        true => print_json(&thing),
        false => print(&show::whole(kind.columns, &thing)),
    }
}

fn remove(kind: &Kind, client: &Client, matches: &ArgMatches) -> Result<(), Failure> {
    let answer = client.ask(Method::DELETE, &(named(kind, matches) + &how(matches)), None).map_err(Error::failure)?;
    done(&answer, matches)
}

fn change(kind: &Kind, verb: Verb, client: &Client, matches: &ArgMatches) -> Result<(), Failure> {
    let mut body = Map::new();
    for key in kind.keys {
        if let Some(value) = value(key, matches)? {
            body.insert(key.name.to_owned(), value);
        }
    }
    for unset in matches.try_get_many::<String>("unset").ok().flatten().into_iter().flatten() {
        if let Some(key) = kind.keys.iter().find(|key| key.option == unset) {
            body.insert(key.name.to_owned(), Value::Null);
        }
    }
    if let Some(position) = matches.try_get_one::<u16>("position").ok().flatten() {
        body.insert("position".to_owned(), (*position).into());
    }
    if let Some((key, name, _)) = kind.word_to_add.filter(|_| verb == Verb::Add)
        && let Some(word) = word(matches, name)
    {
        body.insert(key.to_owned(), word.into());
    }
    if kind.word == "account" {
        secret::add(&mut body, verb == Verb::Add, word(matches, "secret-from"))?;
    }
    if verb == Verb::Set && body.is_empty() {
        return Err(Failure::input(format!("nothing is to be set; see lunette {} set --help", kind.word)));
    }
    let (method, path) = match verb {
        Verb::Add => (Method::POST, added(kind, matches)),
        _ => (Method::PATCH, named(kind, matches)),
    };
    let answer = client.ask(method, &(path + &how(matches)), Some(&Value::Object(body))).map_err(Error::failure)?;
    done(&answer, matches)
}

/// Where one more is added.
fn added(kind: &Kind, matches: &ArgMatches) -> String {
    match (kind.narrowed, kind.names.first().and_then(|(name, _)| word(matches, name))) {
        (Some(template), Some(name)) => path(template, &[name]),
        _ => kind.all.to_owned(),
    }
}

fn how(matches: &ArgMatches) -> String {
    let said = |name: &str| matches.try_get_one::<bool>(name).ok().flatten() == Some(&true);
    let flags: Vec<String> =
        ["dry-run", "force"].into_iter().filter(|name| said(name)).map(|name| format!("{name}=true")).collect();
    if flags.is_empty() { String::new() } else { format!("?{}", flags.join("&")) }
}

/// What came of it.
fn done(answer: &Value, matches: &ArgMatches) -> Result<(), Failure> {
    if matches.get_flag("json") {
        return print_json(answer);
    }
    for line in show::remarks(answer) {
        eprintln!("{line}");
    }
    match answer["line"].as_str() {
        Some(line) => print(&format!("{line}\n")),
        None => print(&show::plan(answer)),
    }
}

/// What an option says of a key.
fn value(key: &Key, matches: &ArgMatches) -> Result<Option<Value>, Failure> {
    let texts = || matches.try_get_many::<String>(key.option).ok().flatten();
    let numbers = || matches.try_get_many::<i64>(key.option).ok().flatten();
    let one = || word(matches, key.option);
    Ok(match key.kind {
        keys::Kind::Secret => None,
        keys::Kind::Text | keys::Kind::Word(_) => one().map(Value::from),
        keys::Kind::Flag => one().map(|word| Value::from(word == "true")),
        keys::Kind::Number(..) => numbers().and_then(|mut all| all.next().copied()).map(Value::from),
        keys::Kind::Numbers(..) => numbers().map(|all| all.copied().map(Value::from).collect()),
        keys::Kind::Texts => texts().map(|all| all.cloned().map(Value::from).collect()),
        keys::Kind::Units => texts().map(|all| all.map(|text| unit(text)).collect::<Result<Value, _>>()).transpose()?,
        keys::Kind::Amount => one().map(amount),
        keys::Kind::Rate => one().map(rate).transpose()?,
        keys::Kind::Redirect => one().map(|text| match text.strip_suffix(",permanent") {
            Some(address) => json!({ "address": address, "permanent": true }),
            None => Value::from(text),
        }),
    })
}

/// A number where it is one, or else a text with its unit.
fn amount(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from)
}

/// `operations=N,bytes=SIZE,burst=TIME`.
fn rate(text: &str) -> Result<Value, Failure> {
    let mut rate = Map::new();
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Failure::input(format!(
                "--limit {text}: give operations=N, bytes=SIZE or both, as in operations=500,bytes=100M"
            ))
        })?;
        rate.insert(name.trim().replace('-', "_"), amount(value.trim()));
    }
    Ok(Value::Object(rate))
}

/// `LUN[:AS][,ro]`.
fn unit(text: &str) -> Result<Value, Failure> {
    let wrong = || Failure::input(format!("--show {text}: give LUN, LUN:AS or LUN:AS,ro, as in 1 or 1:0,ro"));
    let (numbers, read_only) = match text.strip_suffix(",ro") {
        Some(numbers) => (numbers, true),
        None => (text, false),
    };
    let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    match numbers.split_once(':') {
        None if !read_only => Ok(number(numbers)?.into()),
        None => Ok(json!({ "lun": number(numbers)?, "read_only": true })),
        Some((lun, shown_as)) if read_only => {
            Ok(json!({ "lun": number(lun)?, "as": number(shown_as)?, "read_only": true }))
        }
        Some((lun, shown_as)) => Ok(json!({ "lun": number(lun)?, "as": number(shown_as)? })),
    }
}

/// Prints. Whoever asked may have closed the pipe.
pub fn print(text: &str) -> Result<(), Failure> {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}
