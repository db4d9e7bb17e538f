-- In the database that POSTGRES_DB names, as superuser, who alone may create it.
CREATE EXTENSION engram CASCADE;
