//! `cargo xtask eval detection`: what the baselines find of what real agents did under attack, and how often they are wrong.
//!
//! It is the product's own code that learns and judges here. What differs is only that the facets of the calls were made before, by
//! whoever published the traces without the arguments.

mod evasion;
mod held;
mod judged;
mod mandates;
mod slow;
mod splits;
mod traces;

use std::path::Path;

use bailiwick_core::detect::baseline::{Budget, Channel};

use self::judged::{Execution, Method, Pool, Quantiles};
use self::splits::Split;
use self::traces::Run;
use crate::Result;
use crate::table::Table;

/// The command by which `cargo xtask eval detection` asks for it.
pub(crate) const COMMAND: &str = "eval-detection";

/// How often the runs are parted anew.
const SPLITS: u64 = 10;

/// The shares of false alerts at which is compared.
const SHARES: [f64; 2] = [0.01, 0.001];

/// Evaluates the traces in each of these files.
pub(crate) fn evaluate(files: &[String]) -> Result {
    for file in files {
        let runs = traces::read(Path::new(file))?;
        let count = |is: fn(&Run) -> bool| runs.iter().filter(|run| is(run)).count();
        let (benign, found) = (count(Run::is_benign), count(|run| run.attacked));
        println!("## {}\n", Path::new(file).file_name().unwrap_or_default().to_string_lossy());
        println!(
            "{} runs in {} roles: {benign} without an attack, {found} in which an injected goal was carried out\n",
            runs.len(),
            roles(&runs)
        );
        if found > 0 {
            attacked(&runs);
        }
        alerts(&runs);
        if found > 0 {
            held::evaluate(&runs);
            evasion::evaluate(&runs)?;
        }
    }
    Ok(())
}

fn roles(runs: &[Run]) -> usize {
    runs.iter().map(|run| &run.role).collect::<std::collections::BTreeSet<_>>().len()
}

/// How well each method tells attacked runs from others.
fn attacked(runs: &[Run]) {
    for split in Split::ALL {
        let pools = pools(runs, split);
        let heads = ["method", "AUROC", "found at 1 %", "inline", "found at 0.1 %", "inline", "delay p50", "p90"];
        let mut table = Table::new(&heads);
        for method in Method::ALL {
            let pools: Vec<Pool> = pools.iter().map(|executions| Pool::of(executions, method)).collect();
            let mean = |of: &dyn Fn(&Pool) -> f64| pools.iter().map(of).sum::<f64>() / pools.len().max(1) as f64;
            let [one, tenth] = SHARES;
            let delays = Quantiles::of(pools.iter().flat_map(|pool| pool.delays(tenth)));
            table.row([
                method.name().to_owned(),
                format!("{:.3}", mean(&|pool| pool.auroc())),
                percent(mean(&|pool| pool.found(one).found)),
                percent(mean(&|pool| pool.found(one).inline)),
                percent(mean(&|pool| pool.found(tenth).found)),
                percent(mean(&|pool| pool.found(tenth).inline)),
                delays.at(0.5).map_or_else(|| "-".to_owned(), |calls| calls.to_string()),
                delays.at(0.9).map_or_else(|| "-".to_owned(), |calls| calls.to_string()),
            ]);
        }
        println!("### {}, mean of {} partings\n\n{table}", split.name(), pools.len());
        println!("{}", curve(&pools));
    }
    mandates::evaluate(runs);
}

/// The executions that were judged, of each parting.
fn pools(runs: &[Run], split: Split) -> Vec<Vec<Execution<'_>>> {
    let seeds = if split == Split::NewAgent { 1 } else { SPLITS };
    (0..seeds).map(|seed| split.part(runs, seed).iter().flat_map(|part| judged::judge(part)).collect()).collect()
}

/// The points of the curve of what is found against what is wrong.
fn curve(pools: &[Vec<Execution<'_>>]) -> Table {
    let mut table = Table::new(&["false alerts at most", "found", "the closed-slot rule: false alerts", "found"]);
    let pools: Vec<(Pool, f64, f64)> = pools
        .iter()
        .map(|executions| {
            let share = |attacked: bool| {
                let of: Vec<bool> = executions.iter().filter(|one| one.run.attacked == attacked).map(|one| one.closed.is_some()).collect();
                of.iter().filter(|closed| **closed).count() as f64 / of.len().max(1) as f64
            };
            (Pool::of(executions, Method::Score), share(false), share(true))
        })
        .collect();
    let mean = |of: &dyn Fn(&(Pool, f64, f64)) -> f64| pools.iter().map(of).sum::<f64>() / pools.len().max(1) as f64;
    for (number, share) in [0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2].into_iter().enumerate() {
        let rule = |of: &dyn Fn(&(Pool, f64, f64)) -> f64| if number == 0 { percent(mean(of)) } else { String::new() };
        table.row([
            format!("{:.1} %", share * 100.0),
            percent(mean(&|(pool, ..)| pool.found(share).found)),
            rule(&|one| one.1),
            rule(&|one| one.2),
        ]);
    }
    table
}

/// What the thresholds that the baselines fit by themselves come to: the false alerts that were promised, and the realised. In the last
/// column those are counted that a person would have been told: a role of which fewer than 200 executions were learned only advises.
fn alerts(runs: &[Run]) {
    let mut table = Table::new(&["runs", "channel", "one alert in", "false alerts", "of", "found", "inline", "false alerts told"]);
    for split in Split::ALL {
        let pools = pools(runs, split);
        for (channel, budget) in [(Channel::Call, 100), (Channel::Call, 1000), (Channel::First, 100), (Channel::First, 1000)] {
            let budget = Budget::one_in(budget);
            let (mut benign, mut attacked, mut told) = (Alerts::default(), Alerts::default(), 0_usize);
            for execution in pools.iter().flatten() {
                let alert = execution.alert(channel, budget);
                let counted = if execution.run.attacked { &mut attacked } else { &mut benign };
                counted.count(alert, execution.run.first_bad);
                told += usize::from(alert.is_some() && !execution.run.attacked && execution.is_enough());
            }
            table.row([
                split.name().to_owned(),
                if channel == Channel::First { "first time".to_owned() } else { "calls".to_owned() },
                format!("{:.0}", 1.0 / budget.share()),
                benign.alerts.to_string(),
                benign.runs.to_string(),
                attacked.share(attacked.alerts, attacked.runs),
                attacked.share(attacked.inline, attacked.alerts),
                told.to_string(),
            ]);
        }
    }
    println!("### Alerts by the thresholds that the baselines fit to what they learned\n\n{table}");
}

/// Alerts among runs of one kind.
#[derive(Debug, Default)]
struct Alerts {
    runs: usize,
    alerts: usize,
    inline: usize,
}

impl Alerts {
    fn count(&mut self, alert: Option<usize>, first_bad: Option<usize>) {
        self.runs += 1;
        self.alerts += usize::from(alert.is_some());
        self.inline += usize::from(alert.zip(first_bad).is_some_and(|(call, bad)| call <= bad));
    }

    fn share(&self, some: usize, all: usize) -> String {
        if all == 0 { "-".to_owned() } else { percent(some as f64 / all as f64) }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
