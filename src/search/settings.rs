//! What a search is set up with: the settings of the workspace, and the model of its vectors.

use std::ffi::CStr;

use pgrx::FromDatum;
use pgrx::datum::DatumWithOid;
use uuid::Uuid;

use super::ids::IdSet;
use crate::error::{Error, Result};
use crate::model::similarity::Distance;
use crate::scan::{Lookup, Table, Tuple};
use crate::{rows, spi};

/// An embedding model that is registered.
pub(super) struct Model {
    pub(super) name: String,
    pub(super) dims: i32,
    pub(super) distance: Distance,
}

impl Model {
    /// The model that is named; else the default, unless the query has another length and just one model
    /// has that: while one model replaces another, callers of both are served.
    pub(super) fn of(name: Option<&str>, dims: Option<usize>) -> Result<Option<Self>> {
        let table = Table::open(c"embedding_models")?;
        // Where a policy of the user's own decides, it is asked; so is who may not read all columns.
        let visible: Option<Vec<String>> = if rows::sees_models(&table) {
            None
        } else {
            let sql = "SELECT m.name FROM (SELECT * FROM engram.embedding_models) m";
            let names = spi::rows(sql, &[], |row| Ok(row.get::<String>(1)?))?;
            Some(names.into_iter().flatten().collect())
        };
        let [named, length, distance, default] = [
            table.column(c"name")?,
            table.column(c"dims")?,
            table.column(c"distance")?,
            table.column(c"is_default")?,
        ];
        let mut models: Vec<(Self, bool)> = Vec::new();
        table.each(None, i16::MAX, |row| {
            // SAFETY: the columns have these types; setup() made them. All is copied.
            let (model, is_default) = unsafe {
                let distance: String = row.get(distance).unwrap_or_default();
                let model = Self {
                    name: row.get(named).unwrap_or_default(),
                    dims: row.get(length).unwrap_or(0),
                    distance: Distance::parse(&distance).unwrap_or(Distance::Cosine),
                };
                (model, row.get(default).unwrap_or(false))
            };
            let seen = visible.as_ref().is_none_or(|v| v.contains(&model.name));
            if seen && name.is_none_or(|name| name == model.name) {
                models.push((model, is_default));
            }
            Ok(())
        })?;
        let fits = |model: &Self| dims.is_some() && usize::try_from(model.dims).ok() == dims;
        let fitting = models.iter().filter(|(model, _)| fits(model)).count();
        let default_fits = models
            .iter()
            .any(|(model, default)| *default && fits(model));
        let chosen = models.into_iter().find(|(model, default)| {
            name.is_some()
                || if fitting == 1 && !default_fits {
                    fits(model)
                } else {
                    *default
                }
        });
        Ok(chosen.map(|(model, _)| model))
    }
}

/// The settings of a workspace, and the defaults.
pub(super) struct Settings {
    table: Table,
    own: Option<Tuple>,
    defaults: Tuple,
    /// The caller sees all of them.
    pub(super) whole: bool,
}

impl Settings {
    pub(super) fn read(workspace: Uuid) -> Result<Self> {
        let table = Table::open(c"settings")?;
        // As for models.
        let visible: Option<IdSet> = if rows::sees_settings(&table) {
            None
        } else {
            let ids = spi::rows(
                "SELECT s.workspace_id FROM (SELECT * FROM engram.settings) s WHERE s.workspace_id = ANY ($1)",
                &[DatumWithOid::from(spi::pg_uuids(&[workspace, Uuid::nil()]))],
                spi::id,
            )?;
            Some(ids.into_iter().flatten().map(spi::uuid).collect())
        };
        let mut rows = Lookup::new(&table)?;
        let mut of = |workspace| {
            if visible.as_ref().is_some_and(|v| !v.contains(&workspace)) {
                return None;
            }
            rows.find([workspace])?;
            Some(Tuple::new(&table, rows.tuple()))
        };
        let own = of(workspace);
        let Some(defaults) = of(Uuid::nil()) else {
            return Err(Error::no_defaults());
        };
        drop(rows);
        Ok(Self {
            whole: visible.is_none(),
            table,
            own,
            defaults,
        })
    }

    /// The value of a column: the workspace's own, else the default.
    pub(super) fn get<T: FromDatum>(&self, name: &CStr) -> Result<Option<T>> {
        let column = self.table.column(name)?;
        let mut rows = self.own.iter().chain([&self.defaults]);
        // SAFETY: callers name columns of the type; setup() made them.
        Ok(rows.find_map(|row| unsafe { row.row().get(column) }))
    }
}
