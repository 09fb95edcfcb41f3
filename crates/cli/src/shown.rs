//! What the agent shows at /flagz.

use clap::CommandFactory;

use crate::args::Cli;

/// All flags of the agent, with the values that were given or are the default.
pub(crate) fn flags() -> Vec<(String, String)> {
    let Ok(matches) = Cli::command().try_get_matches() else { return Vec::new() };
    let Some((name, matches)) = matches.subcommand() else { return Vec::new() };
    let command = Cli::command();
    let Some(command) = command.find_subcommand(name) else { return Vec::new() };
    let flag = |argument: &clap::Arg| {
        let values = matches.try_get_raw(argument.get_id().as_str()).ok().flatten();
        let values: Vec<String> = values
            .into_iter()
            .flatten()
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        Some((argument.get_long()?.to_owned(), values.join(",")))
    };
    command.get_arguments().filter_map(flag).collect()
}
