//! All routes of the API.

use super::route::{Act, Gives, Parameter, Route, Takes, Verb};
use super::{change, document, sessions, show, statistics, trace, units};

const DRY_RUN: Parameter =
    Parameter { name: "dry-run", about: "only the plan; nothing is touched", takes: Takes::Flag };
const FORCE: Parameter =
    Parameter { name: "force", about: "what is in use is taken away; those who use it are told", takes: Takes::Flag };
const SECRETS: Parameter =
    Parameter { name: "secrets", about: "with the secrets that stand in it", takes: Takes::Flag };
const CHANGES: &[Parameter] = &[DRY_RUN, FORCE];
const KINDS: Parameter = Parameter { name: "kind", about: "only events of these kinds", takes: Takes::Words };

const TRACE: &[Parameter] = &[
    words("session", "only of this session"),
    words("initiator", "only of this initiator"),
    words("target", "only at this target"),
    words("opcodes", "only PDUs with these opcodes, with commas between"),
    words("data", "so many bytes of data segments"),
    Parameter { name: "secrets", about: "what a login shows of secrets too", takes: Takes::Flag },
];

const fn words(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, takes: Takes::Words }
}

/// What a change of the configuration can end with.
const REFUSALS: &[&str] = &["not-found", "exists", "in-use", "conflict", "needs-restart", "invalid", "input", "failed"];
const ABSENT: &[&str] = &["not-found"];

/// What a route does, as the table has it.
macro_rules! act {
    ($act:path) => {
        |call| Box::pin($act(call))
    };
}

/// A route that gives something.
const fn gives(
    verb: Verb,
    path: &'static str,
    name: &'static str,
    about: &'static str,
    gives: Gives,
    problems: &'static [&'static str],
    act: Act,
) -> Route {
    Route { verb, path, name, about, body: None, query: &[], gives, problems, act }
}

/// A route that changes the configuration.
const fn changes(
    verb: Verb,
    path: &'static str,
    name: &'static str,
    about: &'static str,
    body: Option<&'static str>,
    act: Act,
) -> Route {
    Route { verb, path, name, about, body, query: CHANGES, gives: Gives::One("Plan"), problems: REFUSALS, act }
}

/// All of them.
pub const ROUTES: &[Route] = &[
    gives(Verb::Get, "/v1/openapi.json", "openapi", "This document", Gives::Document, &[], act!(show::openapi)),
    gives(Verb::Get, "/v1/status", "status", "How the daemon stands", Gives::One("Status"), &[], act!(show::status)),
    gives(
        Verb::Get,
        "/v1/door",
        "door",
        "The front door: logins, bounds, who was refused",
        Gives::One("Door"),
        &[],
        act!(show::door),
    ),
    Route {
        verb: Verb::Patch,
        path: "/v1/door",
        name: "set-door",
        about: "Lets people log in, or nobody: who is there stays",
        body: Some("DoorChange"),
        query: &[],
        gives: Gives::One("Done"),
        problems: &[],
        act: act!(show::set_door),
    },
    // Targets, disks, rules.
    gives(
        Verb::Get,
        "/v1/targets",
        "list-targets",
        "All targets",
        Gives::List("targets", "Target"),
        &[],
        act!(show::targets),
    ),
    changes(Verb::Post, "/v1/targets", "add-target", "Adds a target", Some("NewTarget"), act!(change::add_target)),
    gives(
        Verb::Get,
        "/v1/targets/{target}",
        "show-target",
        "A target",
        Gives::One("Target"),
        ABSENT,
        act!(show::target),
    ),
    changes(
        Verb::Patch,
        "/v1/targets/{target}",
        "set-target",
        "Changes a target",
        Some("TargetChange"),
        act!(change::set_target),
    ),
    changes(
        Verb::Delete,
        "/v1/targets/{target}",
        "remove-target",
        "Removes a target with its disks",
        None,
        act!(change::remove_target),
    ),
    gives(
        Verb::Get,
        "/v1/luns",
        "list-all-luns",
        "The disks of all targets",
        Gives::List("luns", "Lun"),
        &[],
        act!(show::all_luns),
    ),
    gives(
        Verb::Get,
        "/v1/targets/{target}/luns",
        "list-luns",
        "The disks of a target",
        Gives::List("luns", "Lun"),
        ABSENT,
        act!(show::luns),
    ),
    changes(Verb::Post, "/v1/targets/{target}/luns", "add-lun", "Adds a disk", Some("NewLun"), act!(change::add_lun)),
    gives(
        Verb::Get,
        "/v1/targets/{target}/luns/{lun}",
        "show-lun",
        "A disk",
        Gives::One("Lun"),
        ABSENT,
        act!(show::lun),
    ),
    changes(
        Verb::Patch,
        "/v1/targets/{target}/luns/{lun}",
        "set-lun",
        "Changes a disk: its size, whether it is online, who may write",
        Some("LunChange"),
        act!(change::set_lun),
    ),
    changes(
        Verb::Delete,
        "/v1/targets/{target}/luns/{lun}",
        "remove-lun",
        "Removes a disk; its store stays",
        None,
        act!(change::remove_lun),
    ),
    gives(
        Verb::Get,
        "/v1/targets/{target}/rules",
        "list-rules",
        "Who may use a target",
        Gives::List("rules", "Rule"),
        ABSENT,
        act!(show::rules),
    ),
    changes(
        Verb::Post,
        "/v1/targets/{target}/rules",
        "add-rule",
        "Adds a rule",
        Some("NewRule"),
        act!(change::add_rule),
    ),
    gives(
        Verb::Get,
        "/v1/targets/{target}/rules/{rule}",
        "show-rule",
        "A rule by its position",
        Gives::One("Rule"),
        ABSENT,
        act!(show::rule),
    ),
    changes(
        Verb::Patch,
        "/v1/targets/{target}/rules/{rule}",
        "set-rule",
        "Changes a rule",
        Some("RuleChange"),
        act!(change::set_rule),
    ),
    changes(
        Verb::Delete,
        "/v1/targets/{target}/rules/{rule}",
        "remove-rule",
        "Removes a rule",
        None,
        act!(change::remove_rule),
    ),
    // Accounts, portals, groups.
    gives(
        Verb::Get,
        "/v1/accounts",
        "list-accounts",
        "The CHAP accounts, without their secrets",
        Gives::List("accounts", "Account"),
        &[],
        act!(show::accounts),
    ),
    changes(
        Verb::Post,
        "/v1/accounts",
        "add-account",
        "Adds an account",
        Some("NewAccount"),
        act!(change::add_account),
    ),
    gives(
        Verb::Get,
        "/v1/accounts/{account}",
        "show-account",
        "An account",
        Gives::One("Account"),
        ABSENT,
        act!(show::account),
    ),
    changes(
        Verb::Patch,
        "/v1/accounts/{account}",
        "set-account",
        "Changes an account",
        Some("AccountChange"),
        act!(change::set_account),
    ),
    changes(
        Verb::Delete,
        "/v1/accounts/{account}",
        "remove-account",
        "Removes an account",
        None,
        act!(change::remove_account),
    ),
    gives(
        Verb::Get,
        "/v1/portals",
        "list-portals",
        "Where it listens",
        Gives::List("portals", "Portal"),
        &[],
        act!(show::portals),
    ),
    changes(
        Verb::Post,
        "/v1/portals",
        "add-portal",
        "Listens at one more address",
        Some("NewPortal"),
        act!(change::add_portal),
    ),
    gives(
        Verb::Get,
        "/v1/portals/{portal}",
        "show-portal",
        "A portal",
        Gives::One("Portal"),
        ABSENT,
        act!(show::portal),
    ),
    changes(
        Verb::Patch,
        "/v1/portals/{portal}",
        "set-portal",
        "Changes a portal",
        Some("PortalChange"),
        act!(change::set_portal),
    ),
    changes(
        Verb::Delete,
        "/v1/portals/{portal}",
        "remove-portal",
        "Listens there no more",
        None,
        act!(change::remove_portal),
    ),
    gives(
        Verb::Get,
        "/v1/groups",
        "list-groups",
        "The portal groups",
        Gives::List("groups", "Group"),
        &[],
        act!(show::groups),
    ),
    gives(
        Verb::Get,
        "/v1/groups/{group}",
        "show-group",
        "A portal group",
        Gives::One("Group"),
        ABSENT,
        act!(show::group),
    ),
    changes(
        Verb::Patch,
        "/v1/groups/{group}",
        "set-group",
        "Says something of a portal group",
        Some("GroupChange"),
        act!(change::set_group),
    ),
    changes(
        Verb::Delete,
        "/v1/groups/{group}",
        "remove-group",
        "Says nothing of a portal group any more",
        None,
        act!(change::remove_group),
    ),
    // What holds for all.
    gives(
        Verb::Get,
        "/v1/limits",
        "list-limits",
        "Every bound",
        Gives::List("limits", "Limit"),
        &[],
        act!(show::limits),
    ),
    changes(Verb::Patch, "/v1/limits", "set-limits", "Changes bounds", Some("LimitsChange"), act!(change::set_limits)),
    gives(Verb::Get, "/v1/log", "show-log", "What is logged", Gives::One("Log"), &[], act!(show::log)),
    changes(Verb::Patch, "/v1/log", "set-log", "Changes what is logged", Some("LogChange"), act!(change::set_log)),
    changes(
        Verb::Post,
        "/v1/changes",
        "change",
        "Makes several changes as one",
        Some("Changes"),
        act!(change::changes),
    ),
    // The document.
    Route {
        verb: Verb::Get,
        path: "/v1/configuration",
        name: "show-configuration",
        about: "The document that is served",
        body: None,
        query: &[SECRETS],
        gives: Gives::One("Configuration"),
        problems: &["failed"],
        act: act!(document::show),
    },
    changes(
        Verb::Put,
        "/v1/configuration",
        "replace-configuration",
        "Serves this document, and keeps it in the file",
        Some("NewConfiguration"),
        act!(document::replace),
    ),
    changes(
        Verb::Post,
        "/v1/configuration/reload",
        "reload-configuration",
        "Serves what the file says now",
        None,
        act!(document::reload),
    ),
    // Who is there.
    gives(
        Verb::Get,
        "/v1/sessions",
        "list-sessions",
        "The sessions with all that was agreed",
        Gives::Sessions,
        &[],
        act!(sessions::list),
    ),
    gives(
        Verb::Get,
        "/v1/sessions/{session}",
        "show-session",
        "A session by its TSIH",
        Gives::One("Session"),
        ABSENT,
        act!(sessions::show),
    ),
    gives(
        Verb::Delete,
        "/v1/sessions/{session}",
        "drop-session",
        "Drops a session; its initiator is told",
        Gives::One("Done"),
        &["not-found", "failed"],
        act!(sessions::drop_session),
    ),
    gives(
        Verb::Get,
        "/v1/connections",
        "list-connections",
        "The connections of all sessions",
        Gives::List("connections", "ConnectionOfSession"),
        &[],
        act!(sessions::connections),
    ),
    gives(
        Verb::Get,
        "/v1/sessions/{session}/connections/{connection}",
        "show-connection",
        "A connection by its CID",
        Gives::One("ConnectionOfSession"),
        ABSENT,
        act!(sessions::connection),
    ),
    gives(
        Verb::Delete,
        "/v1/sessions/{session}/connections/{connection}",
        "drop-connection",
        "Drops a connection; the session may go on",
        Gives::One("Done"),
        &["not-found", "in-use"],
        act!(sessions::drop_connection),
    ),
    gives(
        Verb::Get,
        "/v1/reservations",
        "list-reservations",
        "The reservations of all disks that have any",
        Gives::List("reservations", "Reservation"),
        &[],
        act!(units::reservations),
    ),
    gives(
        Verb::Get,
        "/v1/targets/{target}/luns/{lun}/reservation",
        "show-reservation",
        "The reservations of a disk",
        Gives::One("Reservation"),
        ABSENT,
        act!(units::reservation),
    ),
    gives(
        Verb::Delete,
        "/v1/targets/{target}/luns/{lun}/reservation",
        "clear-reservation",
        "Ends all reservations and registrations of a disk; those who had them are told",
        Gives::One("Done"),
        &["not-found", "failed"],
        act!(units::clear_reservation),
    ),
    gives(
        Verb::Get,
        "/v1/statistics",
        "statistics",
        "What was counted of LUNs and sessions since the start; numbers that only grow",
        Gives::One("Statistics"),
        &[],
        act!(statistics::counters),
    ),
    gives(
        Verb::Get,
        "/v1/running",
        "running",
        "What runs, and whether the document's file says something else by now",
        Gives::One("Running"),
        &[],
        act!(statistics::daemon),
    ),
    gives(Verb::Get, "/v1/sandbox", "sandbox", "What the daemon has given up", Gives::Any, &[], act!(show::sandbox)),
    Route {
        verb: Verb::Get,
        path: "/v1/trace",
        name: "trace",
        about: "PDUs as they pass, a line of JSON each",
        body: None,
        query: TRACE,
        gives: Gives::Lines,
        problems: &["not-found", "busy"],
        act: act!(trace::route),
    },
    Route {
        verb: Verb::Get,
        path: "/v1/events",
        name: "events",
        about: "What happens from now on, as server-sent events; who reads too slowly loses some and is told how many",
        body: None,
        query: &[KINDS],
        gives: Gives::Events,
        problems: &["busy"],
        act: act!(show::events),
    },
];
