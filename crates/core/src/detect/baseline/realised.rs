//! What came of the operator's budget: how often each role alerted on each channel, beside how often it may.

use jiff::ToSpan as _;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::fold::Baselines;
use super::role::Channel;

/// How often one role alerted on one channel, beside what the operator can bear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertRate {
    /// The tenant and the roles.
    pub role: String,
    /// What is calibrated together.
    pub channel: Channel,
    /// How many executions of the role were learned.
    pub learned: u64,
    /// Whether that is too few: what is said of the role advises, and raises no alert.
    pub advises: bool,
    /// The score from which on an alert is raised; nothing while it advises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// The executions that were judged since alerts are raised.
    pub executions: u64,
    /// Those among them that raised an alert on this channel.
    pub alerts: u64,
    /// Those among the alerts that a person said were right.
    pub confirmed: u64,
    /// Alerts that nobody said were right, in a thousand executions; nothing before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_thousand: Option<f64>,
    /// How many alerts in a thousand executions the operator's budget has for this channel.
    pub budget_per_thousand: f64,
}

/// A day that what was learned can go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedBy {
    /// The day, UTC, at whose end it was so.
    pub day: Date,
    /// How many executions were learned by then, of the roles that are asked for.
    pub executions: u64,
}

impl Baselines {
    /// The days that a role can go back to, or all of them, oldest first.
    pub fn days(&self, role: Option<&str>) -> Vec<LearnedBy> {
        let is_meant = |peers: &super::Peers| role.is_none_or(|role| peers.as_str() == role);
        let day = |number: i64| Date::constant(1970, 1, 1).checked_add(number.days()).ok();
        let learned = self.snapshots_learned(is_meant);
        learned.filter_map(|(number, executions)| Some(LearnedBy { day: day(number)?, executions })).collect()
    }

    /// How often each role alerted on each channel, in the order of the roles' names and of the channels.
    pub fn alert_rates(&self) -> Vec<AlertRate> {
        let budget = self.budget();
        let rates = |(peers, role): (&super::Peers, &super::Role)| {
            Channel::ALL.map(|channel| {
                let realised = role.realised(channel);
                AlertRate {
                    role: peers.as_str().to_owned(),
                    channel,
                    learned: role.executions(),
                    advises: !role.is_enough(),
                    threshold: role.threshold(channel, budget),
                    executions: realised.executions,
                    alerts: realised.alerts,
                    confirmed: realised.confirmed,
                    per_thousand: realised.per_thousand(),
                    budget_per_thousand: f64::from(budget.share()) * f64::from(channel.share()) * 1000.0,
                }
            })
        };
        self.roles().flat_map(rates).collect()
    }
}
