//! What happens to records on their way, and whether those that are asked for it answer.

use super::answers::{Answer, Asking};
use kas3_sink::{
    plan::Pipeline,
    transform::{Chain, Probe},
};
use kas3_store::Unobserved;
use std::sync::Arc;

/// All lists of transforms, beside one another.
pub(super) async fn all(asking: &Asking, pipeline: &Pipeline) -> Vec<Answer> {
    let chains = pipeline.chains();
    let tried = chains.iter().map(|(key, chain)| async move {
        match asking.ask("transforms", "what the transforms ask", tried(key, chain)).await {
            Ok(answers) => answers,
            Err(answer) => vec![answer.about(key)],
        }
    });
    futures::future::join_all(tried).await.into_iter().flatten().collect()
}

async fn tried(key: &str, chain: &Arc<Chain>) -> Vec<Answer> {
    let mut answers: Vec<Answer> = chain.about().into_iter().map(|about| Answer::ok("transforms", format!("{key}: {about}"))).collect();
    let opened = match chain.open(Arc::new(Unobserved)).await {
        Ok(opened) => opened,
        Err(error) => {
            answers.push(Answer::error("transforms", &error));
            return answers;
        }
    };
    for transform in opened.iter() {
        answers.extend(transform.probe().await.into_iter().map(|tried| match tried {
            Probe::Good(text) => Answer::ok("transforms", format!("{key}: {text}")),
            Probe::Known(text) => Answer::warning("transforms", format!("{key}: {text}")),
            Probe::Bad(error) => Answer::error("transforms", &error),
        }));
    }
    answers
}
