import java.io.FileInputStream;
import java.util.zip.GZIPInputStream;

/** Java's own gzip, as Hadoop, Spark and Logstash use it where they have no native one. */
class Gunzip {
    public static void main(String[] arguments) throws Exception {
        try (var file = new GZIPInputStream(new FileInputStream(arguments[0]), 1 << 16)) {
            file.transferTo(System.out);
        }
        System.out.flush();
    }
}
