import java.nio.ByteBuffer;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * What a team would write with Kafka Streams instead of a ledger: commands in, a balance by account and the ids seen in stores, events out,
 * exactly once. A command is the length of its id (one byte), the id, points (8 bytes, big endian) and whatever else it says; an event is
 * the id likewise, the balance after it, and filler up to the size of a ledger's record.
 */
final class Ledger implements Processor<byte[], byte[], byte[], byte[]> {
    private final int eventBytes;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], Long> balances;
    private KeyValueStore<byte[], Long> seen;

    private Ledger(int eventBytes) {
        this.eventBytes = eventBytes;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        balances = context.getStateStore("balances");
        seen = context.getStateStore("seen");
    }

    @Override
    public void process(Record<byte[], byte[]> command) {
        ByteBuffer body = ByteBuffer.wrap(command.value());
        byte[] id = new byte[body.get()];
        body.get(id);
        long points = body.getLong();
        if (seen.get(id) != null) {
            return;
        }
        Long before = balances.get(command.key());
        long after = (before == null ? 0 : before) + points;
        if (after < 0) {
            return;
        }
        balances.put(command.key(), after);
        seen.put(id, after);
        ByteBuffer event = ByteBuffer.allocate(Math.max(eventBytes, id.length + 9));
        event.put((byte) id.length).put(id).putLong(after);
        context.forward(command.withValue(event.array()));
    }

    /** Arguments: brokers, prefix of the topics, commit interval in milliseconds, threads, bytes of an event, folder, "rocksdb" or "memory". */
    public static void main(String[] args) {
        String prefix = args[1];
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, prefix);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, args[2]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args[3]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[5]);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        boolean inMemory = args[6].equals("memory");
        int eventBytes = Integer.parseInt(args[4]);
        Topology topology = new Topology();
        var bytes = Serdes.ByteArray();
        topology.addSource("commands", bytes.deserializer(), bytes.deserializer(), prefix + ".commands");
        topology.addProcessor("decide", () -> new Ledger(eventBytes), "commands");
        for (String name : new String[] {"balances", "seen"}) {
            KeyValueBytesStoreSupplier store = inMemory ? Stores.inMemoryKeyValueStore(name) : Stores.persistentKeyValueStore(name);
            topology.addStateStore(Stores.keyValueStoreBuilder(store, bytes, Serdes.Long()), "decide");
        }
        topology.addSink("events", prefix + ".events", bytes.serializer(), bytes.serializer(), "decide");
        KafkaStreams streams = new KafkaStreams(topology, settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }
}
