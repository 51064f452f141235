"""One proven close in a transaction that is never committed: break a row, rebuild what lies downstream, read the proof.

The statements are those dbt ran for this very close, taken from its artifacts and run in dbt's order, so a mutation
costs what its SQL costs. That dbt itself ends the same way is shown in test_failed_close.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection

PROOFS = ("reconciliation.proof_items", "accounting.proof_clearing")
PARTITIONED = {"reconciliation", "accounting", "kpi", "monitoring"}


class Finding(NamedTuple):
    """Why a close is not proven: a line of a proof, or a model that the database refused to build."""

    check: str
    subject: str
    currency: str
    detail: str


@dataclass(frozen=True)
class Model:
    """What dbt ran for one model of the close; ``parents`` are relations ("schema.table")."""

    relation: str
    parents: frozenset[str]
    statement: str


def models_of(artifacts: Sequence[Path], database: str) -> list[Model]:
    """The models that dbt built into these target folders, in its order, to be run in any copy of ``database``."""
    models = []
    for folder in artifacts:
        manifest = json.loads((folder / "manifest.json").read_text())
        nodes = {**manifest["nodes"], **manifest["sources"]}
        relations = {
            key: f"{node['schema']}.{node.get('identifier') or node.get('alias')}" for key, node in nodes.items()
        }
        for result in json.loads((folder / "run_results.json").read_text())["results"]:
            key = result["unique_id"]
            if key.startswith("model."):
                parents = frozenset(relations[parent] for parent in nodes[key]["depends_on"]["nodes"])
                # dbt spells the database out; Postgres reads no other one anyway.
                models.append(Model(relations[key], parents, result["compiled_code"].replace(f'"{database}".', "")))
    return models


class ProvenClose:
    """A built close: mutations of it, and what its proof says of each.

    :param connection: a superuser's, to the database the models were built in or a copy; nothing is ever committed.
    :param models: in build order, proofs included.
    """

    def __init__(self, connection: Connection, close_id: int, models: Sequence[Model]) -> None:
        self.connection = connection
        self.close_id = close_id
        self.models = models

    def rows(self, relation: str, where: str = "true", order: str = "1") -> list[dict[str, Any]]:
        """Rows of this close, each with its ``ctid``."""
        with self._cursor() as cursor:
            cursor.execute(
                f"select ctid::text as ctid, t.* from {relation} t where {self._of_this_close(relation)} and {where} "
                f"order by {order}, ctid"
            )
            names = [column.name for column in cursor.description]
            found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        self.connection.rollback()
        return found

    def delete(self, relation: str, row: Mapping[str, Any]) -> list[Finding]:
        """What the proof says once this row is gone."""
        with self._mutated() as cursor:
            cursor.execute(f"delete from {relation} where ctid = %s", (row["ctid"],))
            return self._proof_after(cursor, relation)

    def double(self, relation: str, row: Mapping[str, Any], **changes: object) -> list[Finding]:
        """What the proof says once this row stands there twice, the copy with ``changes``."""
        with self._mutated() as cursor:
            names = [name for name in row if name != "ctid"]
            values = [changes.get(name, row[name]) for name in names]
            statement = sql.SQL("insert into {} ({}) select {} from {} where ctid = %s").format(
                sql.Identifier(*relation.split(".")),
                sql.SQL(", ").join(map(sql.Identifier, names)),
                sql.SQL(", ").join(
                    sql.Literal(value) if name in changes else sql.Identifier(name)
                    for name, value in zip(names, values, strict=True)
                ),
                sql.Identifier(*relation.split(".")),
            )
            try:
                cursor.execute(statement, (row["ctid"],))
            except errors.UniqueViolation as error:
                return [_refusal(relation, error)]
            return self._proof_after(cursor, relation)

    def change(self, relation: str, row: Mapping[str, Any], **changes: object) -> list[Finding]:
        """What the proof says once columns of this row hold other values."""
        with self._mutated() as cursor:
            assignments = sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in changes.items()
            )
            cursor.execute(
                sql.SQL("update {} set {} where ctid = %s").format(sql.Identifier(*relation.split(".")), assignments),
                (row["ctid"],),
            )
            return self._proof_after(cursor, relation)

    def unchanged(self, relation: str) -> list[Finding]:
        """What the proof says after a rebuild without any mutation: the guard of this harness."""
        with self._mutated() as cursor:
            return self._proof_after(cursor, relation)

    def downstream(self, relation: str) -> list[Model]:
        """What has to be built again when a relation changed, in build order: models that lead to a proof.

        Which raw tables a proof reads is known to dbt only when it runs, so its graph does not say it:
        the proofs are always built again.
        """
        wanted = set(PROOFS)
        for model in reversed(self.models):
            if model.relation in wanted:
                wanted |= model.parents
        touched = {relation}
        models = []
        for model in self.models:
            if model.relation == relation or model.relation not in wanted:
                continue
            if model.parents & touched or model.relation in PROOFS:
                touched.add(model.relation)
                models.append(model)
        return models

    def _of_this_close(self, relation: str) -> str:
        schema = relation.split(".")[0]
        if schema in PARTITIONED:
            return f"close_id = {self.close_id}"
        if schema == "raw":
            return f"batch_id in (select batch_id from ops.close_batches where close_id = {self.close_id})"
        return "true"

    def _cursor(self) -> Any:
        return self.connection.cursor()

    @contextmanager
    def _mutated(self) -> Iterator[Any]:
        try:
            with self._cursor() as cursor:
                yield cursor
        finally:
            self.connection.rollback()

    def _proof_after(self, cursor: Any, mutated: str) -> list[Finding]:
        for model in self.downstream(mutated):
            cursor.execute("savepoint before_model")
            try:
                self._rebuild(cursor, model)
            except (psycopg2.IntegrityError, psycopg2.DataError) as error:
                # dbt would end here: the model fails, and with it the close.
                cursor.execute("rollback to savepoint before_model")
                return [_refusal(model.relation, error)]
        found = []
        for proof in PROOFS:
            cursor.execute(
                f"select check_name, subject, currency, coalesce(detail, '') from {proof} "
                "where close_id = %s and not is_proven order by 1, 2, 3",
                (self.close_id,),
            )
            found += [Finding(*row) for row in cursor.fetchall()]
        return found

    def _rebuild(self, cursor: Any, model: Model) -> None:
        cursor.execute(f"delete from {model.relation} where {self._of_this_close(model.relation)}")
        cursor.execute(f"select * from ({model.statement}) built limit 0")
        columns = ", ".join(column.name for column in cursor.description)
        cursor.execute(f"insert into {model.relation} ({columns}) select {columns} from ({model.statement}) built")


def _refusal(relation: str, error: psycopg2.Error) -> Finding:
    return Finding("refused", relation, "", str(error).strip())
