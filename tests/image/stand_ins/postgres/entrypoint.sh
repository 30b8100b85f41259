# Make the cluster and the database once, then serve.
data=/var/lib/postgresql/data
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
if ! [ -f "$data/made" ]; then
  install -d -o postgres -g postgres -m 0700 "$data" /run/postgresql
  install -o postgres -m 0400 "$POSTGRES_PASSWORD_FILE" /run/postgresql/password
  as_postgres initdb --pgdata="$data" --encoding=UTF8 --locale=C --username=postgres \
    --auth-host=scram-sha-256 --auth-local=trust --pwfile=/run/postgresql/password
  rm /run/postgresql/password
  echo 'host all all all scram-sha-256' >> "$data/pg_hba.conf"
  as_postgres pg_ctl --pgdata="$data" --wait --options="-c listen_addresses=''" start
  as_postgres createdb --username=postgres "$POSTGRES_DB"
  as_postgres pg_ctl --pgdata="$data" --wait stop
  touch "$data/made"
fi
install -d -o postgres -g postgres /run/postgresql
exec setpriv --reuid=postgres --regid=postgres --clear-groups postgres -D "$data" -c listen_addresses='*'
