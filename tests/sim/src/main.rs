//! Simulates seeds by hand: `cargo run -p pelton-sim -- --seeds 5000 --from 1`.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::process::ExitCode;

use pelton_sim::plan::Plant;
use pelton_sim::sim::simulate;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, otherwise: u64| {
        let at = args.iter().position(|a| a == name);
        let given = at.and_then(|at| args.get(at + 1)).map(|n| n.parse());
        given.unwrap_or(Ok(otherwise))
    };
    let (Ok(seeds), Ok(from)) = (number("--seeds", 200), number("--from", 1)) else {
        println!("usage: pelton-sim [--seeds N] [--from SEED] [--plant BUG]");
        return ExitCode::FAILURE;
    };
    let named = args.iter().position(|a| a == "--plant");
    let named = named.and_then(|at| args.get(at + 1));
    let plant = Plant::ALL
        .into_iter()
        .find(|p| named.is_some_and(|name| *name == format!("{p:?}")));
    let mut failed = 0;
    for seed in from..from.saturating_add(seeds) {
        match simulate(seed, plant) {
            Err(e) => {
                failed += 1;
                println!("seed {seed}: {e}");
            }
            Ok(report) if !report.violations.is_empty() => {
                failed += 1;
                println!(
                    "seed {seed} ({}): {}\n  alone: cargo run -p pelton-sim -- --seeds 1 --from {seed}",
                    report.job,
                    report.violations.join("\n  ")
                );
            }
            Ok(report) if seeds == 1 => println!(
                "seed {seed} ({}): {} steps, {} processes, {} crashes, {} zombies, {} checkpoints, {} savepoints, {} moves, {} collected, {} torn, trace {:016x}",
                report.job,
                report.steps,
                report.processes,
                report.crashes,
                report.zombies,
                report.checkpoints,
                report.savepoints,
                report.moves,
                report.collected,
                report.torn,
                report.trace
            ),
            Ok(_) => {}
        }
    }
    println!("{seeds} seeds from {from}: {failed} failed");
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
