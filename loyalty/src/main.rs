//! The one binary.

#[macro_use]
mod output;

mod args;
mod audit;
mod bench;
mod budget;
mod clv;
mod connections;
mod copy;
mod correct;
mod decline;
mod demo;
mod door;
mod estimate;
mod export;
mod import;
mod memory;
mod node;
mod objects;
mod ops;
mod period;
mod replay;
mod report;
mod serve;
mod summary;
mod up;
mod upgrade;
mod verify;
mod watch;

use clap::Parser;

use args::{Arguments, Command};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    memory::keep();
    // Before anything speaks TLS: traces, object stores, downloads.
    embedded_postgres::use_ring();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody may be reading. clap's own code for wrong usage is 2, which says here that an import rejected rows.
            let _ = error.print();
            return if error.use_stderr() { std::process::ExitCode::FAILURE } else { std::process::ExitCode::SUCCESS };
        }
    };
    args::log(&arguments);
    let outcome = match arguments.command {
        Command::Up(options) => up::run(options).await,
        Command::Serve(options) => serve::run(options).await,
        Command::Demo(options) => demo::run(options).await,
        Command::Import(options) => import::run(options).await,
        Command::Program(options) => ops::program(options).await,
        Command::Projectors(options) => ops::projectors(options).await,
        Command::Rebuild(options) => ops::rebuild(options).await,
        Command::Upgrade(options) => upgrade::run(options).await,
        Command::Verify(options) => ops::verify(options).await,
        Command::Log(options) => copy::run(options).await,
        Command::Audit(options) => audit::run(options.action).await,
        Command::Clv(options) => clv::run(options.action).await,
        Command::Decline(options) => decline::run(options.action).await,
        Command::Period(options) => period::run(options.action).await,
        Command::Report(options) => report::run(options).await,
        Command::Export(options) => export::run(options).await,
        Command::Bench(options) => bench::run(options).await,
        Command::Key(options) => ops::key(&options),
        Command::Schema(options) => ops::schema(&options),
    };
    telemetry::flush();
    let printed = || output::failed().map_or(Ok(()), |error| Err(anyhow::Error::new(error).context("not all could be printed")));
    match outcome.and_then(|()| printed()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<import::SomeRejected>() { std::process::ExitCode::from(2) } else { std::process::ExitCode::FAILURE }
        }
    }
}
