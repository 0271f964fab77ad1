//! `lunette inquiry`: what a unit says of itself, decoded.

mod pages;

use super::dump::hex_lines;
use super::login::{Login, Needed, leave};
use super::{bytes_out, failure, print, print_json};
use crate::failure::Failure;
use clap::Args;
use initiator::{Address, Unit};
use pages::Fields;
use serde_json::{Map, Value, json};

const EXAMPLES: &str = "\
Examples:
  lunette inquiry iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0
  lunette inquiry --page 83 iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0
  lunette inquiry --json iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0 | jq .pages.b0";

/// Arguments of `lunette inquiry`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The unit: iscsi://HOST[:PORT]/TARGET/LUN
    #[arg(value_name = "URL")]
    url: String,
    /// Only these VPD pages: hexadecimal codes (80, 83, b0), or standard for no page
    #[arg(long = "page", short, value_name = "CODE", value_parser = page_code)]
    pages: Vec<Section>,
    /// The groups of target ports too (REPORT TARGET PORT GROUPS)
    #[arg(long)]
    port_groups: bool,
    /// The bytes as they came; with exactly one --page
    #[arg(long, conflicts_with_all = ["json", "port_groups"], requires = "pages")]
    raw: bool,
    /// Each page as hexadecimal digits too
    #[arg(long, conflicts_with = "raw")]
    hex: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Standard,
    Page(u8),
}

fn page_code(text: &str) -> Result<Section, String> {
    if text == "standard" {
        return Ok(Section::Standard);
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let code = u8::from_str_radix(digits.strip_suffix('h').unwrap_or(digits), 16);
    code.map(Section::Page).map_err(|_| "a page is two hexadecimal digits, or standard".to_owned())
}

/// A decoded answer.
struct Told {
    section: Section,
    bytes: Vec<u8>,
    /// Why it cannot be decoded, where it cannot.
    fields: Result<Fields, String>,
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.raw && arguments.pages.len() != 1 {
        return Err(Failure::input("--raw: give one --page"));
    }
    let address = arguments.login.address(&arguments.url, Needed::Unit)?;
    let (told, groups) = super::run(async {
        let unit = arguments.login.unit(&address).await?;
        let told = ask(arguments, &address, &unit).await;
        let groups = match arguments.port_groups {
            true => Some(unit.target_port_groups().await.map_err(|error| failure::of(&address, &error))),
            false => None,
        };
        leave(unit.session()).await;
        Ok((told?, groups.transpose()?))
    })?;
    if arguments.raw {
        return told.first().map_or(Ok(()), |one| bytes_out(&one.bytes));
    }
    let groups = groups.map(|groups| pages::port_groups(&groups));
    if arguments.json {
        return print_json(&value(&told, groups.as_ref()));
    }
    let mut sections: Vec<String> = told.iter().map(|one| people(one, arguments.hex)).collect();
    sections.extend(groups.map(|groups| format!("Target port groups\n{}", groups.text())));
    print(&sections.join("\n"))
}

async fn ask(arguments: &Arguments, address: &Address, unit: &Unit) -> Result<Vec<Told>, Failure> {
    let failed = |error: initiator::Error| failure::of(address, &error);
    let standard = unit.standard_inquiry().await.map_err(failed)?;
    let parsed = scsi::inquiry::parse(&standard);
    // A target answers INQUIRY for LUNs behind which there is nothing.
    if parsed.as_ref().is_none_or(|inquiry| inquiry.qualifier != 0) {
        return Err(failure::no_unit(address));
    }
    let sections = match arguments.pages.is_empty() {
        false => arguments.pages.clone(),
        true => {
            let pages = unit.vpd_pages().await.unwrap_or_default();
            std::iter::once(Section::Standard).chain(pages.into_iter().map(Section::Page)).collect()
        }
    };
    let mut told = Vec::new();
    for section in sections {
        let (bytes, fields) = match section {
            Section::Standard => (standard.clone(), pages::standard(&standard)),
            Section::Page(code) => {
                let bytes = unit.vpd(code).await.map_err(|error| match error {
                    initiator::Error::Scsi(_) => {
                        Failure::runtime(format!("{address}: the unit has no VPD page {code:02x}h: {error}"))
                    }
                    error => failed(error),
                })?;
                let fields = pages::vpd(code, &bytes);
                (bytes, fields)
            }
        };
        told.push(Told { section, bytes, fields });
    }
    Ok(told)
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn value(told: &[Told], groups: Option<&Fields>) -> Value {
    let mut pages = Map::new();
    let mut all = Map::new();
    for one in told {
        let decoded = match &one.fields {
            Ok(fields) => fields.value(),
            Err(why) => json!({ "error": why }),
        };
        let mut decoded = decoded;
        decoded["hex"] = digits(&one.bytes).into();
        match one.section {
            Section::Standard => drop(all.insert("standard".into(), decoded)),
            Section::Page(code) => drop(pages.insert(format!("{code:02x}"), decoded)),
        }
    }
    all.insert("pages".into(), pages.into());
    if let Some(groups) = groups {
        all.insert("port_groups".into(), groups.value()["groups"].clone());
    }
    all.into()
}

fn people(told: &Told, hex: bool) -> String {
    let head = match told.section {
        Section::Standard => "Standard INQUIRY data".to_owned(),
        Section::Page(code) => format!("VPD page {code:02x}h, {}", pages::name(code)),
    };
    let body = match &told.fields {
        Ok(fields) => fields.text(),
        Err(why) => format!("  cannot be decoded: {why}\n"),
    };
    let lines = if hex || told.fields.is_err() { hex_lines(&told.bytes) } else { String::new() };
    format!("{head}\n{body}{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_named_as_people_name_them() {
        for text in ["b0", "B0", "0xb0", "b0h"] {
            assert_eq!(page_code(text), Ok(Section::Page(0xb0)));
        }
        assert_eq!(page_code("standard"), Ok(Section::Standard));
        assert!(page_code("1b0").is_err() && page_code("serial").is_err());
    }
}
