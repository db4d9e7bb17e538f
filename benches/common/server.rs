//! A PostgreSQL server of our own, kept between runs, reached by a Unix socket only.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};

use super::{Failure, Result, from_task, say};

/// `nobody` and its group on Debian: PostgreSQL refuses to run as root.
const SERVER_UID: u32 = 65534;
/// The path of a socket has at most 107 bytes.
const LONGEST_DIRECTORY: usize = 85;
/// The ordinary role: owns nothing, bypasses nothing.
pub const ROLE: &str = "app";

/// A running server; stops when dropped.
pub struct Server {
    directory: PathBuf,
    socket: PathBuf,
    child: Child,
}

impl Server {
    /// Starts the server in `$ENGRAM_HOME/bench`, with `settings` as `name=value`.
    pub fn start(settings: &[String]) -> Result<Self> {
        let prefix = from_task("ENGRAM_PG18")?;
        let directory = from_task("ENGRAM_HOME")?.join("bench");
        let data = directory.join("data");
        private_directory(&directory)?;
        if !data.exists() {
            say("creating a database cluster");
            let new = directory.join("data.new");
            let _ = fs::remove_dir_all(&new);
            let out = command(&prefix, "initdb")
                .args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=trust"])
                .arg("-D")
                .arg(&new)
                .output()
                .map_err(|e| Failure::new(format!("Cannot run initdb: {e}.")))?;
            if !out.status.success() {
                return Err(Failure::new(format!(
                    "initdb failed:\n{}\nIts user must be able to enter ENGRAM_HOME.",
                    String::from_utf8_lossy(&out.stderr)
                )));
            }
            rename(&new, &data)?;
        }
        let mut socket = directory.clone();
        if directory.as_os_str().len() > LONGEST_DIRECTORY {
            socket = std::env::temp_dir().join(format!("engram-bench.{}", std::process::id()));
            private_directory(&socket)?;
        }
        let log = directory.join("server.log");
        let log_file = fs::File::create(&log)
            .map_err(|e| Failure::new(format!("Cannot write {}: {e}.", log.display())))?;
        let mut start = command(&prefix, "postgres");
        start
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&socket)
            .args(["-c", "listen_addresses="])
            .args(["-c", "unix_socket_permissions=0700"]);
        for setting in settings {
            start.args(["-c", setting]);
        }
        start
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file);
        // SAFETY: prctl is async-signal-safe. A server that outlives this program would keep the
        // next run from starting; SIGINT asks for a fast shutdown.
        unsafe {
            start.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT);
                Ok(())
            });
        }
        let child = start
            .spawn()
            .map_err(|e| Failure::new(format!("Cannot start PostgreSQL: {e}.")))?;
        let mut server = Self {
            directory,
            socket,
            child,
        };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<()> {
        // Recovery after a crash may take its time.
        let until = Instant::now() + Duration::from_secs(300);
        while self.connect("postgres", "postgres").is_err() {
            let ended = self.child.try_wait().ok().flatten().is_some();
            if ended || Instant::now() > until {
                let log = self.directory.join("server.log");
                return Err(Failure::new(format!(
                    "The server did not start:\n{}",
                    fs::read_to_string(log).unwrap_or_default()
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut admin = self.admin("postgres")?;
        if admin
            .query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&ROLE])?
            .is_none()
        {
            admin.batch_execute(&format!("CREATE ROLE {ROLE} LOGIN"))?;
        }
        Ok(())
    }

    fn connect(&self, database: &str, role: &str) -> std::result::Result<Client, postgres::Error> {
        Config::new()
            .host_path(&self.socket)
            .user(role)
            .dbname(database)
            .application_name("engram bench")
            .options("-c timezone=UTC -c client_min_messages=warning")
            .connect(NoTls)
    }

    /// Connects as superuser.
    pub fn admin(&self, database: &str) -> Result<Client> {
        Ok(self.connect(database, "postgres")?)
    }

    /// Connects as the ordinary role, which is nobody yet.
    pub fn app(&self, database: &str) -> Result<Client> {
        Ok(self.connect(database, ROLE)?)
    }

    /// PostgreSQL, pgvector, engram.
    pub fn versions(&self, database: &str) -> Result<String> {
        let row = self.admin(database)?.query_one(
            "SELECT 'PostgreSQL ' || current_setting('server_version') || ', pgvector '
               || (SELECT extversion FROM pg_extension WHERE extname = 'vector') || ', engram '
               || (SELECT extversion FROM pg_extension WHERE extname = 'engram')",
            &[],
        )?;
        Ok(row.get(0))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: a plain signal to the child that we started: fast shutdown.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        let _ = self.child.wait();
        if self.socket != self.directory {
            let _ = fs::remove_dir_all(&self.socket);
        }
    }
}

/// Brings engram, its tables and a model of `dims` dimensions into a database.
pub fn install_engram(admin: &mut Client, dims: usize) -> Result<()> {
    admin.batch_execute(&format!(
        "CREATE EXTENSION engram CASCADE;
         SELECT engram.setup('{{\"grant_to\": [\"{ROLE}\"]}}');
         SELECT engram.set_embedding_model('bench', {dims})"
    ))?;
    Ok(())
}

/// Makes the connection act for `user`. A benchmark's connections have no pooler to fear.
pub fn act_for(client: &mut Client, user: &str) -> Result<()> {
    client.execute("SELECT set_config('engram.user_id', $1, false)", &[&user])?;
    Ok(())
}

/// What autovacuum, which is off, and engram's own maintenance would have done by now.
pub fn settle(admin: &mut Client) -> Result<()> {
    let maintain = admin.query_opt(
        "SELECT FROM pg_proc WHERE pronamespace = 'engram'::regnamespace AND proname = 'maintain'
         AND prokind = 'p' AND pronargs = pronargdefaults",
        &[],
    )?;
    if maintain.is_some() {
        admin.batch_execute("CALL engram.maintain()")?;
    }
    admin.batch_execute("VACUUM (ANALYZE)")?;
    admin.batch_execute("CHECKPOINT")?;
    Ok(())
}

fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A program of the server, never as root.
fn command(prefix: &Path, program: &str) -> Command {
    let mut command = Command::new(prefix.join("bin").join(program));
    command
        .env_remove("RUST_BACKTRACE")
        .env("LC_ALL", "C")
        .current_dir("/");
    if is_root() {
        command.uid(SERVER_UID).gid(SERVER_UID);
    }
    command
}

fn private_directory(path: &Path) -> Result<()> {
    let make = || {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        if is_root() {
            chown(path, Some(SERVER_UID), Some(SERVER_UID))?;
        }
        Ok(())
    };
    make().map_err(|e: std::io::Error| {
        Failure::new(format!("Cannot create {}: {e}.", path.display()))
    })
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Failure::new(format!("Cannot create {}: {e}.", to.display())))
}
