"""A Flask application, served as `flask run` does: a thread for each request."""

import os

from flask import Flask
from flask_nameko import FlaskPooledClusterRpcProxy

rpc = FlaskPooledClusterRpcProxy()

app = Flask(__name__)
app.config.update(NAMEKO_AMQP_URI=os.environ["AMQP_URI"], NAMEKO_INITIAL_CONNECTIONS=1, NAMEKO_RPC_TIMEOUT=20)
rpc.init_app(app)


@app.route("/greet/<visitor>")
def greet(visitor):
    return rpc.greeter.greet(visitor)
