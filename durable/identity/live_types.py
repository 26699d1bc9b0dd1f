"""Types whose objects stand for something outside the program: they have no value, so they count by their type alone.

A name is the top-level package and the qualified name, `"package:Class"`, so that nothing is imported and a class that
its library moves between private modules is still found.
"""

from __future__ import annotations

_EXECUTION = (
    "builtins:generator builtins:coroutine builtins:async_generator builtins:coroutine_wrapper builtins:frame "
    "builtins:traceback builtins:async_generator_asend builtins:async_generator_athrow builtins:anext_awaitable "
    "threading:Thread threading:Condition threading:Event threading:Semaphore threading:Barrier threading:_RLock "
    "_thread:lock _thread:RLock _thread:_local _thread:_ThreadHandle _threading_local:local "
    "_contextvars:ContextVar _contextvars:Context _contextvars:Token "
    "weakref:ReferenceType weakref:ProxyType weakref:CallableProxyType weakref:finalize weakref:WeakKeyDictionary "
    "weakref:WeakValueDictionary _weakrefset:WeakSet "
    "concurrent:Executor concurrent:Future queue:Queue _queue:SimpleQueue sched:scheduler "
    "multiprocessing:BaseProcess multiprocessing:Pool multiprocessing:Queue multiprocessing:SimpleQueue "
    "itertools:accumulate itertools:batched itertools:chain itertools:combinations "
    "itertools:combinations_with_replacement itertools:compress itertools:count itertools:cycle itertools:dropwhile "
    "itertools:filterfalse itertools:_grouper itertools:groupby itertools:islice itertools:pairwise "
    "itertools:permutations itertools:product itertools:repeat itertools:starmap itertools:takewhile itertools:_tee "
    "itertools:zip_longest "
    "multiprocessing:SemLock multiprocessing:Condition multiprocessing:Event multiprocessing:Barrier "
    "multiprocessing:BaseManager multiprocessing:BaseProxy multiprocessing:_ConnectionBase subprocess:Popen"
)
_ASYNC = (
    "asyncio:AbstractEventLoop asyncio:AbstractEventLoopPolicy asyncio:Queue asyncio:Lock asyncio:Event "
    "asyncio:Condition asyncio:Semaphore asyncio:Barrier asyncio:Future _asyncio:Future asyncio:TaskGroup "
    "asyncio:Timeout asyncio:Runner asyncio:Handle asyncio:StreamReader asyncio:StreamWriter asyncio:BaseTransport "
    "asyncio:BaseProtocol asyncio:AbstractServer asyncio:Process "
    "anyio:TaskGroup anyio:CapacityLimiter anyio:Lock anyio:Event anyio:Condition anyio:Semaphore anyio:CancelScope "
    "anyio:MemoryObjectSendStream anyio:MemoryObjectReceiveStream anyio:BlockingPortal trio:Nursery trio:CancelScope"
)
_FILES_AND_SOCKETS = (
    "_io:_IOBase tempfile:_TemporaryFileWrapper tempfile:TemporaryDirectory tempfile:SpooledTemporaryFile "
    "_socket:socket _ssl:_SSLContext ssl:SSLObject select:epoll select:kqueue select:poll selectors:BaseSelector "
    "mmap:mmap zipfile:ZipFile tarfile:TarFile posix:ScandirIterator "
    "logging:Filterer logging:LoggerAdapter structlog:BoundLoggerBase structlog:BoundLoggerLazyProxy loguru:Logger"
)
_NETWORK_CLIENTS = (
    "http:HTTPConnection urllib:OpenerDirector smtplib:SMTP imaplib:IMAP4 ftplib:FTP poplib:POP3 "
    "socketserver:BaseServer xmlrpc:ServerProxy "
    "httpx:BaseClient httpx:Client httpx:AsyncClient httpx2:BaseClient requests:Session urllib3:PoolManager "
    "urllib3:HTTPConnectionPool aiohttp:ClientSession aiohttp:BaseConnector websockets:Connection grpc:Channel "
    "openai:BaseClient anthropic:BaseClient mistralai:Mistral groq:BaseClient cohere:BaseCohere "
    "google:Client google:BaseApiClient stripe:StripeClient slack_sdk:BaseClient twilio:Client "
    "boto3:Session boto3:ServiceResource botocore:BaseClient botocore:Session aiobotocore:AioBaseClient "
    "paramiko:SSHClient paramiko:Transport asyncssh:SSHClientConnection "
    "distributed:Client distributed:Future pika:BlockingConnection kafka:KafkaProducer kafka:KafkaConsumer "
    "celery:Celery selenium:WebDriver playwright:SyncBase playwright:AsyncBase"
)
_DATABASES = (
    "sqlite3:Connection sqlite3:Cursor sqlite3:Blob aiosqlite:Connection "
    "sqlalchemy:Engine sqlalchemy:Connection sqlalchemy:Session sqlalchemy:sessionmaker sqlalchemy:scoped_session "
    "sqlalchemy:InstanceState django:ModelState "
    "sqlalchemy:AsyncEngine sqlalchemy:AsyncConnection sqlalchemy:AsyncSession sqlalchemy:async_sessionmaker "
    "psycopg:BaseConnection psycopg:BaseCursor psycopg_pool:BasePool psycopg2:connection psycopg2:cursor "
    "asyncpg:Connection asyncpg:Pool pymysql:Connection MySQLdb:Connection duckdb:DuckDBPyConnection "
    "_duckdb:DuckDBPyConnection redis:Redis redis:ConnectionPool pymongo:MongoClient pymongo:Database "
    "pymongo:Collection pymongo:AsyncMongoClient motor:AgnosticClient elasticsearch:Elasticsearch neo4j:Driver"
)

LIVE_TYPES = frozenset(f"{_EXECUTION} {_ASYNC} {_FILES_AND_SOCKETS} {_NETWORK_CLIENTS} {_DATABASES}".split())
