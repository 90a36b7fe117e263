from nameko_sqlalchemy import Database, DatabaseSession, transaction_retry
from seen import note
from sqlalchemy import Column, Integer, String
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import declarative_base

from nameko.rpc import rpc


class Model:
    id = Column(Integer, primary_key=True)


Base = declarative_base(cls=Model, name="library")


class Book(Base):
    __tablename__ = "books"

    title = Column(String, unique=True)


class Library:
    name = "library"

    db = Database(Base)
    session = DatabaseSession(Base)

    @rpc
    def open(self):
        Base.metadata.create_all(self.session.get_bind())

    @rpc
    def add(self, *titles):
        with self.db.get_session() as session:
            session.add_all([Book(title=title) for title in titles])

    @rpc
    def titles(self):
        return [book.title for book in self.session.query(Book).order_by(Book.title)]

    @rpc
    def add_stubbornly(self, title):
        attempts = []

        @transaction_retry(total=2, session=self.db.session)
        def add():
            attempts.append(title)
            if len(attempts) < 3:
                raise OperationalError("INSERT", {}, Exception("gone"), connection_invalidated=True)
            self.db.session.add(Book(title=title))
            self.db.session.commit()

        add()
        note("added", attempts=len(attempts))
