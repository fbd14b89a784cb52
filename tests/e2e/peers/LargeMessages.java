import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/**
 * Drives the clients of Java with bakdata's large-message serde for tests: a command a line, fields between tabs, bytes as base64.
 *
 * <pre>
 * produce TOPIC KEY VALUE PROPERTY=VALUE…   answers `ok`; KEY and VALUE are `-` for none
 * consume TOPIC COUNT PROPERTY=VALUE…       answers COUNT lines `KEY VALUE HEADERS`, the headers' names between commas
 * </pre>
 * What goes wrong is answered as `error` and its causes.
 */
public final class LargeMessages {
    private static final Map<Map<String, Object>, KafkaProducer<byte[], byte[]>> PRODUCERS = new HashMap<>();

    public static void main(final String[] arguments) throws Exception {
        final BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            final String[] fields = line.split("\t");
            try {
                if (fields[0].equals("produce")) {
                    produce(fields[1], bytes(fields[2]), bytes(fields[3]), properties(fields, 4));
                } else {
                    consume(fields[1], Integer.parseInt(fields[2]), properties(fields, 3));
                }
            } catch (final Exception error) {
                final StringBuilder causes = new StringBuilder("error");
                for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                    causes.append(' ').append(String.valueOf(cause).replace('\n', ' '));
                }
                System.out.println(causes);
            }
            System.out.flush();
        }
        PRODUCERS.values().forEach(KafkaProducer::close);
    }

    private static void produce(final String topic, final byte[] key, final byte[] value, final Map<String, Object> properties) throws Exception {
        PRODUCERS.computeIfAbsent(properties, KafkaProducer::new).send(new ProducerRecord<>(topic, key, value)).get();
        System.out.println("ok");
    }

    private static void consume(final String topic, final int count, final Map<String, Object> properties) {
        final long until = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        int seen = 0;
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties)) {
            final List<TopicPartition> partitions = List.of(new TopicPartition(topic, 0));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (seen < count && System.nanoTime() < until) {
                for (final ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    final String headers =
                            StreamSupport.stream(record.headers().spliterator(), false).map(header -> header.key()).collect(Collectors.joining(","));
                    System.out.println(text(record.key()) + "\t" + text(record.value()) + "\t" + headers);
                    seen++;
                }
            }
        }
        if (seen < count) {
            throw new IllegalStateException("only " + seen + " records came");
        }
    }

    private static Map<String, Object> properties(final String[] fields, final int from) {
        final Map<String, Object> properties = new HashMap<>();
        for (int field = from; field < fields.length; field++) {
            final int at = fields[field].indexOf('=');
            properties.put(fields[field].substring(0, at), fields[field].substring(at + 1));
        }
        return properties;
    }

    private static byte[] bytes(final String text) {
        return text.equals("-") ? null : Base64.getDecoder().decode(text);
    }

    private static String text(final byte[] bytes) {
        return bytes == null ? "-" : Base64.getEncoder().encodeToString(bytes);
    }
}
