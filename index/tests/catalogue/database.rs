//! A database of its own for each promise.

use std::rc::Rc;

use filmroom_index::catalogue::Catalogue;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// Which database.
#[derive(Clone)]
pub(crate) enum Kind {
    Sqlite,
    /// URL of a server on which databases may be made
    Postgres(String),
}

/// A database that goes away with its promise.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) kind: Kind,
    name: String,
    directory: Rc<TempDir>,
}

impl Database {
    pub(crate) async fn make(kind: Kind) -> Database {
        let name = format!("filmroom_{}", Uuid::new_v4().simple());
        if let Kind::Postgres(server) = &kind {
            let mut connection = PgConnection::connect(server).await.unwrap();
            let sql = format!("CREATE DATABASE {name}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        Database {
            kind,
            name,
            directory: Rc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// What the catalogue is opened with.
    pub(crate) fn url(&self) -> String {
        match &self.kind {
            Kind::Sqlite => format!("sqlite:{}/data/catalogue.db", self.directory.path().display()),
            Kind::Postgres(server) => {
                let mut url = server.parse::<url::Url>().unwrap();
                url.set_path(&self.name);
                url.to_string()
            }
        }
    }

    pub(crate) async fn open(&self) -> Catalogue {
        Catalogue::open(&self.url()).await.unwrap()
    }

    /// Runs SQL behind the catalogue's back: the words for SQLite, the words for PostgreSQL.
    pub(crate) async fn run(&self, sqlite: &str, postgres: &str) {
        self.try_run(sqlite, postgres).await.unwrap();
    }

    /// The same, where the database may refuse: what it says then.
    pub(crate) async fn try_run(&self, sqlite: &str, postgres: &str) -> Result<(), String> {
        match &self.kind {
            Kind::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                let done = sqlx::raw_sql(AssertSqlSafe(sqlite)).execute(&mut connection).await;
                connection.close().await.unwrap();
                done.map(drop).map_err(|error| error.to_string())
            }
            Kind::Postgres(_) => {
                let mut connection = PgConnection::connect(&self.url()).await.unwrap();
                let done = sqlx::raw_sql(AssertSqlSafe(postgres)).execute(&mut connection).await;
                connection.close().await.unwrap();
                done.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    /// Forgets everything but the nodes, as if the catalogue had been made anew.
    pub(crate) async fn clear(&self) {
        let tables =
            "refused_files erasures deleted_objects tombstones deletions rejection_items rejections hot_copies series_nodes conflicts journal audit rebuild_described rebuild_verdicts rebuild_notes
                      rebuild_listed objects packs series patient_overlays studies patients";
        for table in tables.split_whitespace() {
            let sql = format!("DELETE FROM {table}");
            self.run(&sql, &sql).await;
        }
    }

    /// A number that SQL has an answer for.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        match &self.kind {
            Kind::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
            }
            Kind::Postgres(_) => {
                let mut connection = PgConnection::connect(&self.url()).await.unwrap();
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
            }
        }
    }

    /// A text that SQL has an answer for.
    pub(crate) async fn text(&self, sql: &str) -> String {
        match &self.kind {
            Kind::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
            }
            Kind::Postgres(_) => {
                let mut connection = PgConnection::connect(&self.url()).await.unwrap();
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
            }
        }
    }

    /// Whether every maintained count is what a count of the rows says.
    pub(crate) async fn counts_are_right(&self) {
        for (what, sql) in [
            (
                "studies",
                "SELECT count(*) FROM studies st WHERE (st.instances, st.bytes, st.series) <> (
                    SELECT count(*), CAST(coalesce(sum(o.length), 0) AS BIGINT), count(DISTINCT se.id)
                    FROM objects o JOIN series se ON se.id = o.series WHERE se.study = st.id AND o.state = 'served')",
            ),
            (
                "series",
                "SELECT count(*) FROM series se WHERE (se.instances, se.bytes) <> (
                    SELECT count(*), CAST(coalesce(sum(o.length), 0) AS BIGINT)
                    FROM objects o WHERE o.series = se.id AND o.state = 'served')",
            ),
            (
                "patients",
                "SELECT count(*) FROM patients p WHERE (p.studies, p.series, p.instances) <> (
                    SELECT count(*), CAST(coalesce(sum(st.series), 0) AS BIGINT), CAST(coalesce(sum(st.instances), 0) AS BIGINT)
                    FROM studies st WHERE st.patient = p.id AND st.instances > 0)",
            ),
            (
                "hot copies",
                "SELECT count(*) FROM series_nodes sn WHERE (sn.hot_objects, sn.hot_bytes) <> (
                    SELECT count(*), CAST(coalesce(sum(o.length), 0) AS BIGINT)
                    FROM objects o JOIN hot_copies h ON h.object = o.id AND h.state = 'held' AND h.node = sn.node
                    WHERE o.series = sn.series)",
            ),
            (
                "what is to be done with a series",
                "SELECT count(*) FROM series_nodes sn WHERE sn.state <> (
                    SELECT CASE WHEN count(*) = 0 THEN 'evicted'
                                WHEN sum(CASE WHEN o.pack IS NULL AND o.state <> 'deleted' THEN 1 ELSE 0 END) > 0 THEN 'unpacked'
                                ELSE 'packed' END
                    FROM objects o JOIN hot_copies h ON h.object = o.id AND h.state = 'held' AND h.node = sn.node
                    WHERE o.series = sn.series)",
            ),
            (
                "served versions",
                "SELECT count(*) FROM (SELECT sop_instance_uid FROM objects WHERE state = 'served'
                    GROUP BY sop_instance_uid HAVING count(*) > 1) AS twice",
            ),
        ] {
            assert_eq!(self.number(sql).await, 0, "{what}");
        }
    }

    /// Keeps the files until the database is dropped, whatever its promise does.
    pub(crate) fn guard(&self) -> Database {
        self.clone()
    }

    pub(crate) async fn drop_database(self) {
        if let Kind::Postgres(server) = &self.kind {
            let mut connection = PgConnection::connect(server).await.unwrap();
            let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
    }
}
