//! A private server for the tests: initdb once per run, one database per test, real roles.
//!
//! Everything goes through a Unix socket in a directory of our own. As root the server runs as
//! `nobody`, because PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use postgres::types::{FromSql, ToSql};
use postgres::{Client, Config, NoTls};

/// `nobody` and its group on Debian.
const SERVER_UID: u32 = 65534;

fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// An installed PostgreSQL with our extension in it.
#[derive(Clone, Debug)]
pub struct Installation {
    pub major: u32,
    pub prefix: PathBuf,
}

impl Installation {
    /// The one for `major`, from ENGRAM_PG16 or ENGRAM_PG18.
    pub fn of(major: u32) -> Self {
        let variable = format!("ENGRAM_PG{major}");
        let prefix = std::env::var(&variable)
            .unwrap_or_else(|_| panic!("{variable} is not set; run the tests with ./task test"));
        Self {
            major,
            prefix: prefix.into(),
        }
    }

    /// The one that this run tests, from ENGRAM_TEST_MAJOR.
    pub fn current() -> Self {
        let major = std::env::var("ENGRAM_TEST_MAJOR")
            .expect("ENGRAM_TEST_MAJOR is not set; run the tests with ./task test");
        Self::of(major.parse().expect("a number"))
    }

    /// A command of this installation, with the privileges of the server.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.prefix.join("bin").join(program));
        command
            .env_remove("RUST_BACKTRACE")
            .env("LC_ALL", "C")
            .current_dir("/tmp");
        if is_root() {
            command.uid(SERVER_UID).gid(SERVER_UID);
        }
        command
    }
}

/// A running server; stops when dropped.
pub struct Cluster {
    pub installation: Installation,
    pub directory: PathBuf,
}

impl Cluster {
    /// initdb and start.
    pub fn start(installation: Installation, name: &str) -> Self {
        let cluster = Self::create(installation, name);
        cluster.up();
        cluster
    }

    /// initdb only.
    pub fn create(installation: Installation, name: &str) -> Self {
        let directory = scratch(name);
        let cluster = Self {
            installation,
            directory,
        };
        run(cluster
            .installation
            .command("initdb")
            .args([
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "--auth=trust",
                "-N",
                "-D",
            ])
            .arg(cluster.data()));
        fs::write(
            cluster.directory.join("test.conf"),
            format!(
                "listen_addresses = ''\nunix_socket_directories = '{}'\nmax_connections = 200\n\
                 shared_buffers = 64MB\nautovacuum = off\njit = off\n",
                cluster.directory.display()
            ),
        )
        .unwrap();
        let conf = cluster.data().join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).unwrap();
        text.push_str(&format!(
            "include '{}'\n",
            cluster.directory.join("test.conf").display()
        ));
        fs::write(&conf, text).unwrap();
        cluster
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Adds lines to the configuration, for the next start.
    pub fn configure(&self, lines: &str) {
        let conf = self.directory.join("test.conf");
        let mut text = fs::read_to_string(&conf).unwrap();
        text.push_str(lines);
        fs::write(&conf, text).unwrap();
    }

    /// Starts the server (again).
    pub fn up(&self) {
        run(self
            .installation
            .command("pg_ctl")
            .args(["-w", "-t", "120", "start", "-D"])
            .arg(self.data())
            .arg("-l")
            .arg(self.directory.join("log"))
            // fsync off is safe against a kill of the server, which is all that the tests do.
            .args(["-o", "-F"]));
    }

    /// Stops the server in a mode of pg_ctl: fast or immediate.
    pub fn down(&self, mode: &str) {
        run(self
            .installation
            .command("pg_ctl")
            .args(["-w", "stop", "-m", mode, "-D"])
            .arg(self.data()));
    }

    /// Kills the postmaster and with it everything else, as a crash does.
    pub fn kill(&self) {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid: i32 = pid.lines().next().unwrap().parse().unwrap();
        // SAFETY: plain system calls on the process that we started.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            while libc::kill(pid, 0) == 0 {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        // Backends notice the death of the postmaster and leave; until then they hold the memory.
        std::thread::sleep(std::time::Duration::from_millis(500));
    }

    /// Connects as a role.
    pub fn connect(&self, database: &str, role: &str) -> Client {
        self.try_connect(database, role)
            .unwrap_or_else(|e| panic!("cannot connect to {database} as {role}: {e}"))
    }

    pub fn try_connect(&self, database: &str, role: &str) -> Result<Client, postgres::Error> {
        Config::new()
            .host_path(&self.directory)
            .user(role)
            .dbname(database)
            .connect(NoTls)
    }

    /// A client program of this installation, told where the server is.
    pub fn client(&self, program: &str, role: &str) -> Command {
        let mut command = self.installation.command(program);
        command
            .env("PGHOST", &self.directory)
            .env("PGUSER", role)
            .env("PGOPTIONS", "");
        command
    }

    /// Runs psql with `sql` on standard input, stopping at the first error; gives back what it
    /// printed, unaligned and without headers.
    pub fn psql(&self, database: &str, role: &str, sql: &str) -> Result<String, String> {
        let file = scratch("psql").join("input.sql");
        fs::write(&file, sql).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let out = self
            .client("psql", role)
            .args([
                "-X",
                "-A",
                "-t",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                database,
                "-f",
            ])
            .arg(&file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() {
            Ok(text)
        } else {
            Err(format!("{text}{}", String::from_utf8_lossy(&out.stderr)))
        }
    }

    /// Creates an empty database.
    pub fn create_database(&self, name: &str) {
        self.connect("postgres", "postgres")
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .unwrap();
    }
}

impl Cluster {
    /// A standby of this server, streaming from it.
    pub fn standby(&self, name: &str) -> Self {
        let standby = Self {
            installation: self.installation.clone(),
            directory: scratch(name),
        };
        run(standby
            .installation
            .command("pg_basebackup")
            .args([
                "-U",
                "postgres",
                "-R",
                "-c",
                "fast",
                "-X",
                "stream",
                "--no-sync",
                "-h",
            ])
            .arg(&self.directory)
            .arg("-D")
            .arg(standby.data()));
        let conf = standby.data().join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).unwrap();
        text.push_str(&format!(
            "unix_socket_directories = '{}'\n",
            standby.directory.display()
        ));
        fs::write(&conf, text).unwrap();
        standby.up();
        standby
    }

    /// A connection as `app` in the database `postgres`, where calls are those of a user.
    pub fn user(&self, user: &str) -> Client {
        let mut client = self.connect("postgres", "app");
        client
            .batch_execute(&format!("SET engram.user_id = '{user}'"))
            .unwrap();
        client
    }

    /// Waits until this standby has replayed what its primary has written.
    pub fn catch_up(&self, primary: &Self) {
        let lsn: String = one(
            &mut primary.connect("postgres", "postgres"),
            "SELECT pg_current_wal_insert_lsn()::text",
            &[],
        );
        let mut client = self.connect("postgres", "postgres");
        for _ in 0..600 {
            if one(
                &mut client,
                "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn",
                &[&lsn],
            ) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the standby does not follow");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self
            .installation
            .command("pg_ctl")
            .args(["-w", "stop", "-m", "immediate", "-D"])
            .arg(self.data())
            .output();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Runs a command and panics with its output when it fails.
pub fn run(command: &mut Command) -> Output {
    let out = command
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        out.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A new directory that the server's user may write. Short, because socket paths are limited.
pub fn scratch(name: &str) -> PathBuf {
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("engram-{}-{n}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    if is_root() {
        chown(&path, Some(SERVER_UID), Some(SERVER_UID)).unwrap();
    }
    path
}

/// The server that most tests share. It lives until the test process ends.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        sweep();
        let cluster = Cluster::start(Installation::current(), "shared");
        // Nothing drops a static: a child watches the test process and cleans up after it.
        let pid = std::process::id();
        let script = format!(
            "while [ -d /proc/{pid} ]; do sleep 0.5; done; '{}' -m immediate stop -D '{}'; rm -rf '{}'/engram-{pid}-*",
            cluster.installation.prefix.join("bin/pg_ctl").display(),
            cluster.data().display(),
            std::env::temp_dir().display()
        );
        let mut watch = Command::new("setsid");
        watch
            .args(["sh", "-c", &script])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        if is_root() {
            watch.uid(SERVER_UID).gid(SERVER_UID);
        }
        // It outlives this process on purpose, so nobody waits for it.
        #[allow(clippy::zombie_processes)]
        watch.spawn().unwrap();
        let mut admin = cluster.connect("postgres", "postgres");
        // The roles of a Supabase database, and one of a plain application.
        admin
            .batch_execute(
                "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS;
                 CREATE ROLE authenticator LOGIN NOINHERIT IN ROLE anon, authenticated, service_role;
                 CREATE ROLE app LOGIN; CREATE ROLE outsider LOGIN",
            )
            .unwrap();
        cluster.create_database("engram_template");
        let mut template = cluster.connect("engram_template", "postgres");
        template
            .batch_execute(
                "CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO PUBLIC;
                 CREATE EXTENSION vector SCHEMA extensions;
                 CREATE EXTENSION engram CASCADE;
                 SELECT engram.setup('{\"grant_to\": [\"app\"]}');
                 SELECT engram.set_embedding_model('tiny', 3);",
            )
            .unwrap();
        cluster
    })
}

/// Directories of test runs that are no more.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name
            .strip_prefix("engram-")
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok())
        else {
            continue;
        };
        let ours = entry
            .metadata()
            .is_ok_and(|m| m.is_dir() && m.uid() != u32::MAX);
        if ours && !Path::new(&format!("/proc/{pid}")).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A database of the shared server, cloned from one with engram set up (vector in schema
/// `extensions`, model `tiny` of 3 dimensions, role `app` granted access).
pub struct Database {
    pub name: String,
}

impl Database {
    pub fn new() -> Self {
        let cluster = shared();
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{n}", std::process::id());
        static TEMPLATE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one_at_a_time = TEMPLATE.lock().unwrap_or_else(|e| e.into_inner());
        cluster
            .connect("postgres", "postgres")
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE engram_template"))
            .unwrap();
        Self { name }
    }

    /// A database without engram.
    pub fn empty() -> Self {
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{n}", std::process::id());
        shared().create_database(&name);
        Self { name }
    }

    /// Connects as a role that is nobody yet.
    pub fn connect(&self, role: &str) -> Client {
        shared().connect(&self.name, role)
    }

    /// Connects as superuser.
    pub fn admin(&self) -> Client {
        self.connect("postgres")
    }

    /// Connects as the ordinary role `app`, identified as `user` for the whole session.
    pub fn user(&self, user: &str) -> Client {
        let mut client = self.connect("app");
        client
            .execute("SELECT set_config('engram.user_id', $1, false)", &[&user])
            .unwrap();
        client
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Ok(mut admin) = shared().try_connect("postgres", "postgres") {
            let _ = admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

/// The parts of a server error that callers see.
#[derive(Debug)]
pub struct Failure {
    pub code: String,
    pub message: String,
    pub hint: String,
    pub detail: String,
}

/// The error of a statement that must fail.
pub fn failure<T: std::fmt::Debug>(result: Result<T, postgres::Error>) -> Failure {
    let error = match result {
        Ok(value) => panic!("should have failed, gave {value:?}"),
        Err(error) => error,
    };
    let db = error
        .as_db_error()
        .unwrap_or_else(|| panic!("not a server error: {error}"));
    Failure {
        code: db.code().code().to_owned(),
        message: db.message().to_owned(),
        hint: db.hint().unwrap_or_default().to_owned(),
        detail: db.detail().unwrap_or_default().to_owned(),
    }
}

/// The only column of the only row of a statement.
#[track_caller]
pub fn one<T>(client: &mut Client, sql: &str, args: &[&(dyn ToSql + Sync)]) -> T
where
    T: for<'a> FromSql<'a>,
{
    client
        .query_one(sql, args)
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
        .get(0)
}

/// The rows of a statement as JSON.
#[track_caller]
pub fn json_rows(
    client: &mut Client,
    sql: &str,
    args: &[&(dyn ToSql + Sync)],
) -> Vec<serde_json::Value> {
    client
        .query(&format!("SELECT to_jsonb(r) FROM ({sql}) r"), args)
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
        .iter()
        .map(|row| row.get(0))
        .collect()
}
