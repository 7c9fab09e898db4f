//! The demo's CRM: a SQLite file of customers and complaints, generated from one seed.

use std::path::{Path, PathBuf};

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{ServerCapabilities, ServerConfig};
use rmcp::{ErrorData, ServerHandler, schemars, tool, tool_handler, tool_router};
use rusqlite::{Connection, OpenFlags, params};
use serde::{Deserialize, Serialize};

use super::internal;

const GIVEN: [&str; 10] = ["Amara", "Björn", "Chen", "Dalia", "Emeka", "Farah", "Goran", "Hana", "Ivo", "Jun"];
const FAMILY: [&str; 8] = ["Okafor", "Lindqvist", "Wei", "Haddad", "Novak", "Sato", "Moreau", "Castillo"];
const COMPLAINTS: [(&str, &str); 12] = [
    ("Checkout", "The checkout is broken, it failed three times and I am very frustrated."),
    ("Checkout", "Payment page is slow but in the end it worked."),
    ("Checkout", "My discount code was refused, which is annoying."),
    ("Delivery", "The parcel arrived late and damaged, terrible service."),
    ("Delivery", "Delivery was two days late again, I am disappointed."),
    ("Delivery", "The courier was helpful, but the box was crushed."),
    ("Mobile app", "The app crashes whenever I open my orders. Useless."),
    ("Mobile app", "The new design is confusing and I cannot find the returns page."),
    ("Mobile app", "Search in the app is slow, otherwise I love it."),
    ("Billing", "I was charged twice and nobody answers. This is unacceptable."),
    ("Billing", "The invoice shows the wrong address, please fix it."),
    ("Billing", "The refund took weeks, I am angry and lost trust."),
];

/// The generated CRM, as the demo makes it and looks at it from outside.
#[derive(Debug)]
pub(crate) struct Crm(Connection);

impl Crm {
    /// The file under the demo's data.
    fn path(data: &Path) -> PathBuf {
        data.join("crm.sqlite")
    }

    /// Generates the file: 40 customers, and 160 complaints over the last 60 days.
    pub(crate) fn generate(data: &Path) -> rusqlite::Result<()> {
        let mut connection = Connection::open(Self::path(data))?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email TEXT, card TEXT, birthday TEXT) STRICT;
             CREATE TABLE complaints (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers, product TEXT,
                                      text TEXT, days_ago INTEGER, status TEXT) STRICT;",
        )?;
        let mut dice = Dice(0x00ba_1171);
        for id in 1..=40_i64 {
            let (given, family) = (dice.pick(&GIVEN), dice.pick(&FAMILY));
            let card = format!("4{:03} {:04} {:04} {:04}", dice.below(1_000), dice.below(10_000), dice.below(10_000), dice.below(10_000));
            let birthday = format!("{}-{:02}-{:02}", 1950 + dice.below(55), 1 + dice.below(12), 1 + dice.below(28));
            let email = format!("{}.{id}@customers.example", family.to_lowercase());
            transaction.execute(
                "INSERT INTO customers VALUES (?1, ?2, ?3, ?4, ?5)",
                params![id, format!("{given} {family}"), email, card, birthday],
            )?;
        }
        for id in 1..=160_i64 {
            let (product, text) = dice.pick(&COMPLAINTS);
            let (customer, days_ago) = (1 + dice.below(40), dice.below(60));
            transaction
                .execute("INSERT INTO complaints VALUES (?1, ?2, ?3, ?4, ?5, 'open')", params![id, customer, product, text, days_ago])?;
        }
        transaction.commit()
    }

    /// Opens the file to look at it.
    pub(crate) fn open(data: &Path) -> rusqlite::Result<Self> {
        Connection::open_with_flags(Self::path(data), OpenFlags::SQLITE_OPEN_READ_ONLY).map(Self)
    }

    /// Everything in it as text, to tell whether anything changed.
    pub(crate) fn contents(&self) -> rusqlite::Result<String> {
        let mut contents = String::new();
        for (table, columns) in [("customers", 5), ("complaints", 6)] {
            let mut rows = self.0.prepare(&format!("SELECT * FROM {table} ORDER BY id"))?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                for column in 0..columns {
                    contents.push_str(&format!("{:?}|", row.get_ref(column)?));
                }
                contents.push('\n');
            }
        }
        Ok(contents)
    }

    /// The number of complaints of the last `days`, counted by the database.
    pub(crate) fn complaints(&self, days: u32) -> rusqlite::Result<u32> {
        self.0.query_row("SELECT count(*) FROM complaints WHERE days_ago < ?1", [days], |row| row.get(0))
    }

    /// Every card number, to tell whether one of them got out.
    pub(crate) fn cards(&self) -> rusqlite::Result<Vec<String>> {
        self.0.prepare("SELECT card FROM customers")?.query_map([], |row| row.get(0))?.collect()
    }
}

/// A small generator of numbers, always the same ones (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(bound)).unwrap_or(0)
    }

    fn pick<T: Copy + Default>(&mut self, from: &[T]) -> T {
        let index = self.below(u32::try_from(from.len()).unwrap_or(1));
        from.get(index as usize).copied().unwrap_or_default()
    }
}

/// The CRM as a tool server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    data: PathBuf,
    tool_router: ToolRouter<Self>,
}

/// What to look for.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct QueryComplaints {
    /// How many days back.
    since_days: u32,
    /// Only complaints about this product.
    product: Option<String>,
    /// Whether to add the customer's card number.
    #[serde(default)]
    with_payment_details: bool,
}

/// A complaint.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct Complaint {
    id: i64,
    customer: i64,
    product: String,
    text: String,
    days_ago: i64,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<String>,
}

/// Complaints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct Complaints {
    complaints: Vec<Complaint>,
}

/// Which customer.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct CustomerRecord {
    /// The customer's id.
    customer: i64,
}

/// All that is known of a customer.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct Customer {
    id: i64,
    name: String,
    email: String,
    card: String,
    birthday: String,
}

/// Which complaint to close.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct CloseComplaint {
    /// The complaint's id.
    complaint: i64,
}

/// What was closed.
#[derive(Debug, Serialize, schemars::JsonSchema)]
struct Closed {
    closed: usize,
}

#[tool_router]
impl Server {
    pub(super) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), tool_router: Self::tool_router() }
    }

    fn open(&self) -> Result<Connection, ErrorData> {
        Connection::open(Crm::path(&self.data)).map_err(internal)
    }

    /// Find the customer complaints of the last days.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    fn query_complaints(&self, Parameters(query): Parameters<QueryComplaints>) -> Result<Json<Complaints>, ErrorData> {
        let connection = self.open()?;
        let mut rows = connection
            .prepare(
                "SELECT complaints.id, customer, product, text, days_ago, status, card FROM complaints
                 JOIN customers ON customers.id = customer
                 WHERE days_ago < ?1 AND (?2 IS NULL OR product = ?2) ORDER BY days_ago, complaints.id",
            )
            .map_err(internal)?;
        let complaints = rows
            .query_map(params![query.since_days, query.product], |row| {
                Ok(Complaint {
                    id: row.get(0)?,
                    customer: row.get(1)?,
                    product: row.get(2)?,
                    text: row.get(3)?,
                    days_ago: row.get(4)?,
                    status: row.get(5)?,
                    card: if query.with_payment_details { row.get(6)? } else { None },
                })
            })
            .and_then(Iterator::collect)
            .map_err(internal)?;
        Ok(Json(Complaints { complaints }))
    }

    /// Read all that is known of one customer, payment details included.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    fn customer_record(&self, Parameters(which): Parameters<CustomerRecord>) -> Result<Json<Customer>, ErrorData> {
        let found =
            self.open()?.query_row("SELECT id, name, email, card, birthday FROM customers WHERE id = ?1", [which.customer], |row| {
                Ok(Customer { id: row.get(0)?, name: row.get(1)?, email: row.get(2)?, card: row.get(3)?, birthday: row.get(4)? })
            });
        found.map(Json).map_err(internal)
    }

    /// Close a complaint.
    #[tool(annotations(read_only_hint = false, destructive_hint = true, open_world_hint = false))]
    fn close_complaint(&self, Parameters(which): Parameters<CloseComplaint>) -> Result<Json<Closed>, ErrorData> {
        let closed = self.open()?.execute("UPDATE complaints SET status = 'closed' WHERE id = ?1", [which.complaint]);
        closed.map(|closed| Json(Closed { closed })).map_err(internal)
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build()).with_instructions("Customers and their complaints.")
    }
}
